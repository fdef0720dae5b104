"""The rules of the house, proved from the imports: who may know whom, and what each stage depends on.

`python tests/test_architecture.py` prints the code that each stage of dvc.yaml must list.
"""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("components", "flows", "pipelines")
SECTIONS = set(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

# Which of the project's modules a module may import, by prefix; the longest prefix that fits a module decides.
ALLOWED = {
    "flows": (
        "flows",
        "components.config",
        "components.processes",
        "components.training.run_files",
        "components.watching",
    ),
    "pipelines": ("pipelines", "components"),
    "components.config": ("components.config",),
    "components.processes": (),
    "components.cluster": ("components.config", "components.executor", "components.sharing"),
    "components.sharing": ("components.config",),
    "components.jobs": ("components.config", "components.data.files", "components.training.ray_trainer"),
    "components.executor": ("components.cluster",),
    "components.data": ("components.data", "components.config", "components.executor"),
    "components.models": ("components.models", "components.config"),
    "components.training": ("components.training", "components.models", "components.data", "components.config"),
    "components.training.ray_trainer": ("components",),
    "components.training.session": ("components",),
    "components.training.records": (
        "components.training",
        "components.generation",
        "components.models",
        "components.data",
        "components.config",
    ),
    "components.sweep": ("components",),
    "components.watching": (
        "components.watching",
        "components.training.run_files",
        "components.data",
        "components.config",
    ),
    "components.watching.current": ("components",),
    "components.generation": ("components.generation", "components.models", "components.data", "components.config"),
    "components.generation.__main__": ("components",),
    "components.evaluation": (
        "components.evaluation",
        "components.generation",
        "components.models",
        "components.data",
        "components.config",
        "components.executor",
    ),
    "components.tracking": (
        "components.tracking",
        "components.generation",
        "components.models",
        "components.data",
        "components.config",
    ),
}
# Where a library may be imported, by prefix of the module.
HOME = {
    "prefect": ("flows",),
    "ray": (
        "components.cluster",
        "components.jobs",
        "components.training.ray_trainer",
        "components.training.stopping",
        "components.sweep",
    ),
    "mlflow": ("components.tracking",),
    "boto3": ("components.data.object_folder", "components.data.object_store"),
    "huggingface_hub": ("components.data.hubs",),
    "kagglehub": ("components.data.hubs",),
    "dvc": ("components.data.changes", "components.data.node_cache", "flows.copies"),
    "pickle": (),
    "cloudpickle": (),
}


def module_files():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


MODULES = module_files()


def imports(path, top_level_only=False):
    """Names of the modules that a file imports; `from a import b` gives a.b where that is a module of ours."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            }
    return names


def own(names):
    return {name for name in names if name.split(".")[0] in PACKAGES}


def closure(module, top_level_only=False):
    """A module, all of ours that it imports, however far, and the packages they lie in."""
    found, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        waiting |= (own(imports(MODULES[name], top_level_only)) | (parents & set(MODULES))) - found
    return found


def stage_code(stage):
    """The files that a stage's code is made of, as dvc.yaml lists them."""
    modules = closure(f"pipelines.{stage}")
    if "components.tracking.packaging" in modules:
        modules |= closure("components.tracking.served_model")  # packed into the model by its path
    return sorted(str(MODULES[name].relative_to(ROOT)) for name in modules)


def longest(prefixes, module):
    fitting = [prefix for prefix in prefixes if module == prefix or module.startswith(prefix + ".")]
    return max(fitting, key=len, default=None)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_its_room_may_know(module):
    room = longest(ALLOWED, module)
    if room is None:
        assert module == "components"
        return
    for name in own(imports(MODULES[module])):
        assert longest(ALLOWED[room], name) is not None, f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_library_is_known_only_in_its_home(module):
    for name in imports(MODULES[module]):
        home = HOME.get(name.split(".")[0])
        assert home is None or longest(home, module) is not None, f"{module} imports {name}"


def third_party(modules, top_level_only=True):
    names = {name.split(".")[0] for module in modules for name in imports(MODULES[module], top_level_only)}
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


def test_models_know_torch_alone():
    assert third_party(closure("components.models", top_level_only=True)) == {"torch"}


def test_the_loop_runs_with_torch_numpy_and_safetensors():
    assert third_party(closure("components.training.loop", top_level_only=True)) == {"torch", "numpy", "safetensors"}


def test_what_the_flow_watches_with_needs_no_torch():
    assert "torch" not in third_party(closure("components.watching.run", top_level_only=True))


def test_dvc_runs_the_stages_in_an_order_that_works():
    made = set()
    for stage in STAGES.values():
        needed = {dep for dep in stage["deps"] if not dep.endswith(".py") and not dep.startswith("${")}
        assert needed <= made
        outs = stage["outs"] + stage.get("metrics", [])
        made |= {out if isinstance(out, str) else next(iter(out)) for out in outs}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_code_it_imports(stage):
    assert sorted(dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")) == stage_code(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_params_it_reads(stage):
    source = (ROOT / "pipelines" / f"{stage}.py").read_text(encoding="utf-8")
    read = set(re.findall(r"\b(?:params|load_params\(\))\.(\w+)", source)) & SECTIONS - {"execution"}
    assert read == set(STAGES[stage]["params"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_entry_point_is_a_page(stage):
    assert len((ROOT / "pipelines" / f"{stage}.py").read_text(encoding="utf-8").splitlines()) <= 60


if __name__ == "__main__":
    for name in STAGES:
        print(name, *(f"      - {path}" for path in stage_code(name)), sep="\n")
