"""The scripts and manifests of deploy/ are sound, and do what they say; see also test_slurm.py."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from tests.support import ROOT

DEPLOY = ROOT / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
SKY = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
CLAIM, JOB = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
WORKDIR = re.findall(r"(?m)^WORKDIR (.*)$", (ROOT / "Dockerfile").read_text())[0]
GROUPS = CLUSTER["workerGroupSpecs"]
PODS = [
    JOB["spec"]["submitterPodTemplate"],
    CLUSTER["headGroupSpec"]["template"],
    *(group["template"] for group in GROUPS),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck (dev extra)")
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_embedded_scripts_are_sound():
    for text in (SKY["setup"], SKY["run"]):
        subprocess.run(["bash", "-n", "-c", text], check=True)


# --- run.sh ---------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A folder with deploy/ and commands that write down how they are called."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    (tmp_path / "bin").mkdir()
    (tmp_path / "fail").write_text("0")
    body = {
        "abo-vqa": 'echo "abo-vqa $*" >> calls; [ "$2" = restore ] || exit "$(cat fail)"',
        "dvc": 'if [ "$1" = config ]; then cat remote 2>/dev/null; exit; fi\n'
        'echo "dvc $*" >> calls; [ "$1" = status ] && exit "$(cat status)"; '
        '[ "$1" = push ] || exit "$(cat fail)"',
        "python": 'echo "python $*" >> calls',
    }
    for name, text in body.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
    return tmp_path


def environment(checkout, **variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STATE", "RAY_"))}
    return kept | {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"} | variables


def run(checkout, *words, **variables):
    command = ["bash", *words]
    calls = checkout / "calls"
    calls.write_text("")
    done = subprocess.run(
        command, cwd="/", env=environment(checkout, **variables), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, calls.read_text().splitlines(), done.stderr


def test_a_checkout_on_a_shared_disk_needs_no_session(checkout):
    script = str(checkout / "deploy/run.sh")
    assert run(checkout, script, "split") == (0, ["dvc repro split"], "")
    (checkout / "fail").write_text("75")
    assert run(checkout, script)[:2] == (75, ["dvc repro"])


def test_results_are_pushed_once_all_is_finished_and_there_is_a_remote(checkout):
    (checkout / "remote").write_text("store\n")
    script = str(checkout / "deploy/run.sh")
    assert run(checkout, script)[1] == ["dvc repro", "dvc push --quiet"]
    (checkout / "fail").write_text("1")
    assert run(checkout, script)[:2] == (1, ["dvc repro"])


def test_training_goes_to_the_clusters_workers(checkout):
    script = str(checkout / "deploy/run.sh")
    (checkout / "status").write_text("1")
    before = ["dvc repro split embed", "dvc status --quiet finetune"]
    training = ["python deploy/ray_train.py --workers 4", "dvc commit --force finetune"]
    calls = run(checkout, script, "report", TRAIN_WORKERS="4")
    assert calls == (0, [*before, *training, "dvc repro report"], "")
    (checkout / "status").write_text("0")  # it is trained
    assert run(checkout, script, TRAIN_WORKERS="4")[1] == [*before, "dvc repro"]
    (checkout / "fail").write_text("75")
    assert run(checkout, script, TRAIN_WORKERS="4") == (75, before[:1], "")


def test_what_training_reads_is_made_before():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = [dep for dep in stages["finetune"]["deps"] if re.match("data/(?!raw)", dep)]
    [named] = re.findall(r"(?m)^ +dvc repro ([a-z ]+)$", (DEPLOY / "run.sh").read_text())
    known = set()
    for name in named.split():
        stage = stages[name].get("do") or stages[name]
        known |= {dep for dep in stage["deps"] if dep.startswith("data/")}
        known |= {out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]}
    for dep in made:
        assert any(dep.startswith(path.partition("$")[0]) for path in known), dep


def test_a_new_machine_goes_on_with_the_session(checkout):
    script, state = str(checkout / "deploy/run.sh"), checkout / "state/session"
    first = f"abo-vqa session run --embeddings {state} dvc repro finetune"
    assert run(checkout, script, "finetune", STATE=str(state)) == (0, [first], "")
    (state / "session.json").write_text("{}")
    again = run(checkout, script, "finetune", STATE=str(state))
    assert again == (0, [f"abo-vqa session restore {state}", first], "")


def wait_for(file, text):
    deadline = time.monotonic() + 30
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline, file.read_text() if file.exists() else f"no {file}"
        time.sleep(0.05)


def test_sigterm_lets_the_stage_save(checkout):
    """It reaches what DVC started, also after DVC itself has died of it."""
    stage = checkout / "bin/stage"
    stage.write_text(
        "#!/bin/bash\ntrap 'sleep 1; echo saved >> calls; exit 143' TERM\n"
        "echo started >> calls; while true; do sleep 0.1; done\n"
    )
    stage.chmod(0o755)
    (checkout / "bin/dvc").write_text("#!/bin/bash\nstage &\nwait\n")
    log = checkout / "calls"
    process = subprocess.Popen(
        ["bash", str(checkout / "deploy/run.sh")], env=environment(checkout), start_new_session=True
    )
    wait_for(log, "started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert log.read_text().split() == ["started", "saved"]


# --- node.sh --------------------------------------------------------------------------------------


def test_one_machine_needs_no_cluster(checkout):
    code, calls, _ = run(checkout, str(checkout / "deploy/node.sh"), "0", "1", "h", "dvc", "repro")
    assert (code, calls) == (0, ["dvc repro"])


def test_a_cluster_of_several_machines_needs_a_secret(checkout):
    code, calls, message = run(checkout, str(checkout / "deploy/node.sh"), "0", "2", "h", "dvc")
    assert code != 0
    assert calls == []
    assert "RAY_AUTH_TOKEN: set it to a secret" in message


def test_a_machine_whose_head_never_comes_is_no_failure(checkout):
    script = str(checkout / "deploy/node.sh")
    code, _, message = run(
        checkout, script, "1", "2", "127.0.0.1", "dvc",
        RAY_AUTH_TOKEN="x", JOIN_S="1", RAY_PORT="9",
    )  # fmt: skip
    assert code == 0
    assert "nothing listens at 127.0.0.1:9" in message


# --- manifests ------------------------------------------------------------------------------------


def test_skypilot_reads_the_task():
    sky = pytest.importorskip("sky", reason="skypilot's requirements conflict with the lock")
    task = sky.Task.from_yaml(str(DEPLOY / "skypilot.yaml"))
    assert all(resources.use_spot for resources in task.resources)


def test_skypilot_resumes_on_spot_machines():
    assert SKY["resources"]["use_spot"] is True
    assert 75 in SKY["resources"]["job_recovery"]["recover_on_exit_codes"]
    [mount] = SKY["file_mounts"]
    assert f"STATE={mount}/" in SKY["run"]
    assert SKY["file_mounts"][mount]["mode"] == "MOUNT_CACHED"
    assert "bash deploy/node.sh" in SKY["run"]


def test_kubernetes_accepts_the_pods():
    validator = pytest.importorskip("kubernetes_validate", reason="dev extra")
    version = validator.latest_version()
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod{i}"}, "spec": pod["spec"]}
        for i, pod in enumerate(PODS)
    ]
    for definition in (CLAIM, *pods):
        validator.validate(definition, version, strict=True)


def test_rays_autoscaler_reads_the_cluster():
    """Its own reader of the operator's resource; the operator's schema isn't on an index."""
    module = "ray.autoscaler._private.kuberay.autoscaling_config"
    ray = pytest.importorskip(module, reason="scale extra")
    resource = {"metadata": {"name": "abo-vqa", "namespace": "default"}, "spec": CLUSTER}
    config = ray._derive_autoscaling_config_from_ray_cr(resource)
    head, workers = config["available_node_types"].values()
    assert (head["resources"]["CPU"], head["resources"]["GPU"]) == (0, 0)  # work is for workers
    assert (workers["resources"]["CPU"], workers["resources"]["GPU"]) == (4, 1)
    assert workers["resources"]["memory"] == 16 * 2**30
    assert (workers["min_workers"], config["max_workers"]) == (1, 8)


def test_kubernetes_runs_what_is_here_on_spot_machines():
    assert JOB["spec"]["entrypoint"].endswith("/deploy/run.sh")
    [copy] = PODS[1]["spec"]["initContainers"]
    script = copy["command"][-1]
    subprocess.run(["bash", "-n", "-c", script], check=True)
    assert f"tar -C {WORKDIR} " in script
    assert CLUSTER["authOptions"] == {"mode": "token"}
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={CLUSTER['rayVersion']}\n" in lock  # the operator wants it for tokens
    [group] = GROUPS
    spec = group["template"]["spec"]
    assert spec["nodeSelector"]
    assert {t["key"] for t in spec["tolerations"]} >= set(spec["nodeSelector"])
    head = PODS[1]["spec"]
    assert "nodeSelector" not in head  # `dvc repro` stays
    for pod in PODS[1:]:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
        assert claim == CLAIM["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        variables = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert variables["PYTHONPATH"] == f"{container['workingDir']}/src"
        assert "STATE" not in variables  # the checkout itself is on the volume


def test_slurm_requeues_and_warns_the_stages():
    text = (DEPLOY / "slurm.sh").read_text()
    options = dict(re.findall(r"(?m)^#SBATCH --([\w-]+)(?:=(\S+))?$", text))
    assert options["requeue"] == ""
    assert options["signal"] == "B:TERM@120"
    assert options["open-mode"] == "append"
    assert "array" not in options
