"""The whole chain with alpha: trained, measured, registered, drawn as pages, sheets and answers with straight alpha."""

import base64
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from components.data.images import premultiplied
from components.evaluation.pictures import on_checker
from components.generation.sampler import load_generator, sample

SERVE = """
import json, sys
import mlflow
print(json.dumps(mlflow.pyfunc.load_model(sys.argv[1]).predict([{"seed": 3}, {"seed": 5}], params={"psi": 1.0})))
"""
RGBA = {
    **{"preprocess.channels": 4, "train.arch": "stylegan2", "train.gamma": 0.01, "train.total_kimg": 0.2},
    **{"train.augment.kind": "ada", "train.augment.p": 0.5, "evaluate.every_kimg": 0.1},
}
PLAIN_MODEL = "models:/bestiary-generator/1"


@pytest.fixture(scope="module")
def trained(module_project):
    """The tiny project at 16² with alpha, registered as version 1."""
    module_project.set(RGBA)
    module_project.stages("ingest", "preprocess", "train", "evaluate", "register")
    return module_project


def read(path):
    return json.loads(path.read_text())


def opened(source):
    picture = Image.open(source)
    assert picture.mode == "RGBA"
    return np.asarray(picture)


def draw(project, *arguments, model=PLAIN_MODEL):
    done = project.run(sys.executable, "-m", "components.generation", "--model", model, "--psi", "1", *arguments)
    assert done.returncode == 0, done.stdout


def test_it_is_measured_over_two_backgrounds_and_by_its_alpha(trained):
    assert read(trained.path / "models/candidate/config.json")["channels"] == 4
    metrics = read(trained.path / "reports/metrics.json")
    assert {"frechet_random_conv_rgba", "frechet_alpha"} <= set(metrics["holdout"])
    assert read(trained.path / "reports/registered.json")["version"] == 1
    lines = (trained.path / "reports/history/evaluations.csv").read_text().splitlines()
    assert "frechet_alpha" in lines[0]
    assert len(lines) == 3


def test_grids_have_alpha_and_transparent_gaps(trained):
    (run,) = (trained.path / "runs").iterdir()
    grids = sorted((run / "grids").iterdir())
    assert len(grids) == 2
    grid = opened(grids[-1])
    assert grid.shape == (4 * 18 + 2, 8 * 18 + 2, 4)
    assert not grid[:2].any()
    assert not grid[:, :2].any()
    assert grid[2:18, 2:18, 3].any()
    film = Image.open(trained.path / "reports/history/frames.webp")
    film.seek(film.n_frames - 1)
    shown = np.asarray(film.convert("RGB"))
    scale = shown.shape[1] // grid.shape[1]
    expected = on_checker(premultiplied(grid)[None])[0]
    np.testing.assert_array_equal(shown[::scale, ::scale], expected)


def test_pages_and_sheets_hold_what_the_generator_draws(trained):
    images = sample(load_generator(trained.path / "models/candidate"), range(4))
    assert (images[..., :3] <= images[..., 3:]).all()
    page, sheet = trained.path / "page.png", trained.path / "sheet.png"
    draw(trained, "--seeds", "0-3", "--columns", "2", "--out", str(page))
    draw(trained, "--seeds", "0-3", "--columns", "2", "--out", str(sheet), "--sheet")
    found = premultiplied(opened(sheet)).astype(int)
    for seed, image in enumerate(images):
        frame = read(trained.path / "sheet.json")["frames"][f"seed-{seed}"]["frame"]
        rows, columns = slice(frame["y"], frame["y"] + frame["h"]), slice(frame["x"], frame["x"] + frame["w"])
        np.testing.assert_allclose(found[rows, columns], image, atol=1)
    np.testing.assert_array_equal(opened(page)[2:18, 2:18], opened(sheet)[:16, :16])


def test_evaluations_pictures_are_over_a_checkerboard(trained):
    names = {path.name for path in (trained.path / "reports/pictures").iterdir()}
    assert names == {"samples.png", "reals.png", "comparison.png", "mixing.png", "closest.png"}
    for name in names:
        with Image.open(trained.path / "reports/pictures" / name) as picture:
            assert picture.mode == "RGB"


def test_the_registered_model_answers_with_straight_alpha(trained):
    done = trained.run(
        sys.executable, "-c", SERVE, PLAIN_MODEL, MLFLOW_TRACKING_URI=f"sqlite:///{trained.path / 'mlflow.db'}"
    )
    assert done.returncode == 0, done.stdout
    rows = json.loads(done.stdout.splitlines()[-1])
    images = sample(load_generator(trained.path / "models/candidate"), [3, 5])
    for row, image in zip(rows, images, strict=True):
        answer = opened(io.BytesIO(base64.b64decode(row["png"])))
        np.testing.assert_allclose(premultiplied(answer).astype(int), image, atol=1)
        soft = (image[..., 3] > 8) & (image[..., 3] < 200) & (image[..., :3].max(-1) > 8)
        assert (answer[soft][:, :3].max(-1) > image[soft][:, :3].max(-1)).all()  # divided by alpha


@pytest.mark.parametrize("arch", ["dcgan", "progan", "r3gan"])
def test_other_archs_draw_alpha_too(trained, arch):
    """They have no styles, dcgan has batch norm; the others' grids: tests/unit/training/test_loop.py."""
    trained.set({"train.arch": arch, "train.gamma": 1.0, "train.augment.kind": "diffaugment"})
    trained.set({"train.progan.stable_kimg": 0.03, "train.progan.fade_kimg": 0.03})
    assert "with alpha" in trained.stages("train")
    trained.stages("evaluate", "register")
    assert read(trained.path / "models/candidate/config.json")["arch"] == arch
    assert not (trained.path / "reports/pictures/mixing.png").exists()
    images = sample(load_generator(trained.path / "models/candidate"), range(4))
    page = trained.path / "page.png"
    draw(trained, "--seeds", "0-3", "--out", str(page), model="models:/bestiary-generator@challenger")
    np.testing.assert_allclose(premultiplied(opened(page)[2:18, 2:18]).astype(int), images[0], atol=1)
    assert images.shape == (4, 16, 16, 4)
    assert (images[..., :3] <= images[..., 3:]).all()
