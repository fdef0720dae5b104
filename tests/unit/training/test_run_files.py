"""Which of a run's names belong together, and which of them are whole."""

from components.training.run_files import names, nimg, title, units


def test_units_are_whole_and_the_newest_checkpoint_is_first_of_the_last():
    found = units(
        [
            "checkpoints/000005000/state.json",
            "checkpoints/000005000/state.safetensors",
            "checkpoints/000010000/state.safetensors",
            "checkpoints/000010000/state.json",
            "checkpoints/000015000/state.safetensors",  # half
            "checkpoints/000020000/state.json",  # half
            "checkpoints/.000025000.tmp/state.json",
            "snapshots/000005000/generator.safetensors",
            "snapshots/000005000/config.json",
            "snapshots/000005000/discriminator.safetensors",
            "snapshots/000010000/config.json",  # half
            "grids/000005000.png",
            "initial/generator.safetensors",
            "initial/config.json",
            "metrics.jsonl",
            "lock",
            "checkpoint_manager_snapshot.json",
        ]
    )
    snapshot = tuple(f"snapshots/000005000/{name}" for name in ("config.json", "discriminator.safetensors"))
    assert found == [
        ("grids/000005000.png",),
        ("initial/config.json", "initial/generator.safetensors"),
        ("metrics.jsonl",),
        (*snapshot, "snapshots/000005000/generator.safetensors"),
        ("checkpoints/000010000/state.safetensors", "checkpoints/000010000/state.json"),
        ("checkpoints/000005000/state.safetensors", "checkpoints/000005000/state.json"),
    ]
    assert [title(unit) for unit in found[:3]] == ["grids/000005000.png", "initial", "metrics.jsonl"]
    assert [nimg(unit) for unit in (found[0], *found[3:])] == [5000, 5000, 10000, 5000]


def test_the_names_of_a_folder_are_those_of_its_units(tmp_path):
    kept = {
        "checkpoints/000005000/state.json",
        "snapshots/000005000/config.json",
        "grids/000005000.png",
        "initial/config.json",
        "metrics.jsonl",
    }
    other = {
        "lock",
        "checkpoints/.000010000.tmp/state.json",
        "snapshots/.000005000.gone/x",
        "worker.log",
        "grids/.x.png",
    }
    for name in kept | other:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert set(names(tmp_path)) == kept
