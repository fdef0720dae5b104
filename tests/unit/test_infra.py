"""The structure of infra/: pinned images, no secrets, documented variables, and commands that exist."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from botocore.stub import Stubber

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE_TEXT = (INFRA / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILES = sorted(INFRA.glob("*.Dockerfile"))
BUILT = {"bestiary-orchestrator:1": "orchestrator.Dockerfile", "bestiary-trainer:1": "trainer.Dockerfile"}
PROGRAMS = ("prefect", "mlflow", "ray", "dvc")
SUBCOMMANDS = (
    "prefect work-pool create", "prefect work-pool inspect", "prefect deploy", "prefect worker start",
    "prefect server start", "prefect deployment run", "mlflow server", "mlflow ui", "ray start", "ray status",
    "ray job list", "ray job logs", "ray job stop",
    "dvc repro", "dvc push", "dvc pull", "dvc fetch", "dvc remote add", "dvc remote modify",
    "dvc exp show", "dvc exp apply", "dvc exp remove", "dvc exp push",
)  # fmt: skip
LOCAL = ("127.0.0.1", "localhost")


def instructions(dockerfile):
    """[(instruction, rest)] with continuation lines joined and comments dropped."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def images():
    stages = {}
    for dockerfile in DOCKERFILES:
        for instruction, rest in instructions(dockerfile):
            if instruction == "FROM":
                image = rest.split()[0]
                stages[f"{dockerfile.name}: {image}"] = image
    return stages | {name: service["image"] for name, service in SERVICES.items()}


@pytest.mark.parametrize(("where", "image"), images().items(), ids=images())
def test_image_tags_are_pinned(where, image):
    tag = image.rpartition(":")[2]
    assert re.match(r"\d+\.\d+|1$" if image in BUILT else r"\d+\.\d+", tag), f"{image}: at least major.minor"
    assert "latest" not in tag


def test_services_are_complete():
    assert set(SERVICES) == {
        "postgres", "s3", "buckets", "mlflow", "prefect", "flow-worker", "ray-head", "ray-worker"
    }  # fmt: skip
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name != "buckets"), name
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (INFRA / source).exists(), mount
            else:
                assert source in COMPOSE["volumes"], mount
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to the network"


def test_dependencies_wait_for_what_they_need():
    needs = {name: {n: c["condition"] for n, c in s.get("depends_on", {}).items()} for name, s in SERVICES.items()}
    healthy, done = "service_healthy", "service_completed_successfully"
    assert needs == {
        "postgres": {},
        "s3": {},
        "buckets": {"s3": healthy},
        "mlflow": {"postgres": healthy, "buckets": done},
        "prefect": {"postgres": healthy},
        "flow-worker": {"prefect": healthy, "mlflow": healthy, "ray-head": healthy},
        "ray-head": {},
        "ray-worker": {"ray-head": healthy},
    }


def test_hosts_named_are_services():
    hosts = re.findall(r"(?:https?://|@|--address=|RAY_ADDRESS: |-ip=)([a-z0-9.-]+)(?::\d+|\])?", COMPOSE_TEXT)
    assert len(hosts) > 8
    assert {host for host in hosts if host not in LOCAL} <= set(SERVICES)


def test_gpus_go_to_the_ray_worker_alone():
    (device,) = SERVICES["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert [name for name, service in SERVICES.items() if "deploy" in service] == ["ray-worker"]


def test_every_ray_node_wants_the_token():
    for name in ("ray-head", "ray-worker", "flow-worker"):
        environment = SERVICES[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == f"/run/secrets/{SERVICES[name]['secrets'][0]}"
        assert SERVICES[name]["volumes"] == ["..:/bestiary"], "the checkout is at one path on every node"
    assert COMPOSE["secrets"] == {"ray_auth_token": {"environment": "RAY_AUTH_TOKEN"}}


def test_variables_are_required_and_documented():
    used = re.findall(r"\$\{([^}]*)\}", COMPOSE_TEXT)
    assert all(re.fullmatch(r"[A-Z_0-9]+:\?.+", variable) for variable in used)
    names = {variable.split(":")[0] for variable in used}
    names |= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    lines = (INFRA / ".env.example").read_text().splitlines()
    assignments = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(assignments) == names
    assert not any(assignments.values()), "the example holds no values"


def test_no_secret_stands_in_a_file():
    for path in (path for path in INFRA.rglob("*") if path.is_file() and path.name != ".env" and path.suffix != ".pyc"):
        assert not re.search(r"://[^\s/@:]*:[^\s/@]+@", path.read_text()), f"{path.name}: a password in a URL"
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN", variable):
                assert str(value).startswith(("${", "/run/secrets/")), f"{name}: {variable}"
    for dockerfile in DOCKERFILES:
        assert not re.search(r"(?i)password|secret|token", dockerfile.read_text()), dockerfile.name
    assert ".env" in (INFRA / ".gitignore").read_text().split()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfile(dockerfile):
    steps = instructions(dockerfile)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    users = [rest for instruction, rest in steps if instruction == "USER"]
    assert users == ["bestiary"]
    for instruction, rest in steps:
        if instruction == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed, f"{source}: kept out by .dockerignore"
        if "pip install" in rest:
            assert re.search(r" -c /tmp/\S*constraints\.txt ", rest)
            assert "==" not in rest, "versions stand in constraints.txt alone"


def test_images_are_built_from_their_dockerfiles():
    for name, service in SERVICES.items():
        if "build" in service:
            build = service["build"]
            assert (INFRA / build["context"]).resolve() == ROOT
            assert build["dockerfile"] == f"infra/{BUILT[service['image']]}", name


def _constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = (line.split(";")[0].split("#")[0].strip().partition("==") for line in lines)
    return {re.sub(r"[-_.]+", "-", name.lower()): version for name, _, version in pins if version}


def _trainer_packages():
    (command,) = [rest for _, rest in instructions(INFRA / "trainer.Dockerfile") if "pip install" in rest]
    words = shlex.split(command.partition("pip install")[2])
    return [word.partition("[")[0] for word in words if not word.startswith(("-", "/"))]


def test_trainer_has_torch_and_ray_pinned_and_no_orchestration():
    packages, pins = _trainer_packages(), _constraints()
    assert {"torch", "ray"} <= set(packages) <= set(pins)
    assert not {"prefect", "mlflow"} & set(packages)


def test_trainer_has_what_the_training_code_imports():
    distribution = {"PIL": "pillow", "yaml": "pyyaml"}
    todo, seen, outside = ["components.training.ray_trainer"], set(), set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        base = ROOT.joinpath(*module.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        for name in _imports(path):
            if name.startswith("components"):
                todo.append(name)
            elif name.split(".")[0] not in sys.stdlib_module_names:
                outside.add(distribution.get(name.split(".")[0], name.split(".")[0]))
    assert {"torch", "ray"} <= outside <= set(_trainer_packages())


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            folder = ROOT.joinpath(*node.module.split("."))
            yield from (name for name in inner if (folder / f"{name.rpartition('.')[2]}.py").exists())
            yield node.module


def test_orchestrator_installs_the_project_with_an_extra_that_it_has():
    (command,) = [rest for _, rest in instructions(INFRA / "orchestrator.Dockerfile") if "pip install" in rest]
    (extra,) = re.findall(r"/tmp/bestiary\[(\w+)\]", command)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"][extra] == ["psycopg2-binary"]
    assert {"dvc[s3]", "mlflow", "prefect", "ray[default,train]", "torch"} <= set(project["dependencies"])


def test_database_drivers_are_pinned():
    urls = re.findall(r"postgresql\+(\w+)://", COMPOSE_TEXT)
    package = {"psycopg2": "psycopg2-binary"}
    assert sorted(urls) == ["asyncpg", "psycopg2"]
    assert {package.get(url, url) for url in urls} | {"boto3"} <= set(_constraints())


def commands():
    """[(subcommand, flags)] of services, health checks, scripts and documents, for the programs that can be asked."""
    lines = [service.get("command", []) for service in SERVICES.values()]
    lines += [service["healthcheck"]["test"][1:] for service in SERVICES.values() if "healthcheck" in service]
    documents = [*INFRA.glob("*.sh"), ROOT / "docs" / "operations.md"]
    start = rf"(?m)^(?:exec |docker compose .*exec (?:-T )?\S+ )?((?:{'|'.join(PROGRAMS)}) .*?)(?:\s+#.*)?$"
    lines += [shlex.split(line) for document in documents for line in re.findall(start, document.read_text())]
    for words in (words for words in lines if words and words[0] in PROGRAMS):
        plain = " ".join(word for word in words if not word.startswith("-")) + " "
        known = [name for name in SUBCOMMANDS if plain.startswith(f"{name} ")]
        assert known, f"{shlex.join(words)}: add its subcommand to SUBCOMMANDS"
        yield known[0], {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}


ASK = """  # one process a program, for its imports take seconds: runs `program subcommand --help` for each argument
import importlib.metadata, sys
program, *subcommands = sys.argv[1:]
entries = importlib.metadata.entry_points(group="console_scripts", name=program)
main = next(iter(entries)).load()
for subcommand in subcommands:
    sys.argv = [program, *subcommand.split()[1:], "--help"]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    print("\\f", end="")
    assert not code, subcommand
"""


def help_texts(program, subcommands, home):
    """{subcommand: what it prints for --help}"""
    environment = os.environ | {"COLUMNS": "300", "HOME": str(home), "PREFECT_HOME": str(home), "DO_NOT_TRACK": "true"}
    environment |= {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", ASK, program, *subcommands]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(zip(subcommands, printed.split("\f")[:-1], strict=True))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_and_flag_exists(program, tmp_path):
    used = {}
    for subcommand, flags in commands():
        if subcommand.split()[0] == program:
            used.setdefault(subcommand, set()).update(flags)
    assert used
    for subcommand, text in help_texts(program, list(used), tmp_path).items():
        assert "usage" in text.lower()
        for flag in used[subcommand]:
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text), f"{subcommand} has no {flag}"


def test_scripts_are_executable_and_parse():
    for script in INFRA.rglob("*.sh"):
        assert os.access(script, os.X_OK), script
        subprocess.run(["sh", "-n", script], check=True)


def test_buckets_are_made_where_missing(monkeypatch):
    spec = importlib.util.spec_from_file_location("buckets", INFRA / "buckets.py")
    buckets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(buckets)
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="key")
    monkeypatch.setattr(boto3, "client", lambda service: client)
    with Stubber(client) as store:  # answers in this order, and to nothing else
        store.add_response("head_bucket", {}, {"Bucket": "there"})
        store.add_client_error("head_bucket", http_status_code=404, expected_params={"Bucket": "missing"})
        store.add_response("create_bucket", {}, {"Bucket": "missing"})
        assert buckets.make(["there", "missing"]) == ["missing"]
        store.add_client_error("head_bucket", "403", http_status_code=403)
        with pytest.raises(ClientError, match="403"):
            buckets.make(["forbidden"])
