"""Services for an installation: what systemd and plistlib read out of the files is what was meant."""

import os
import plistlib
import re
import shutil
import signal
import stat
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chainlake.ops.install import environment_file, launchd, systemd
from chainlake.ops.install.files import File, place
from chainlake.ops.install.installation import UNQUOTABLE, InstallPaths, Job, jobs, path_variables
from chainlake.ops.install.plan import Host, plan
from flows.prefect_environment import QUIET
from flows.prefect_password import CLIENT, SERVER, password
from ingest.errors import UsageError
from ingest.settings import PROJECT, load
from tests.commands import run_chainlake

STRANGE = Path("/opt/Q1 100%h & <b> $HOME; #1 – 期权")
MANAGER = Path("/lib/systemd/systemd")
NOBODY = 65534
needs_systemd = pytest.mark.skipif(
    not MANAGER.exists() or (os.getuid() == 0 and not shutil.which("setpriv")),
    reason="systemd, which reads units for this test, is not on this host",
)
needs_verify = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this host")

# Every character that can be printed, but for those that are refused.
letters = st.characters(
    exclude_categories=("C", "Zl", "Zp", "Zs"), exclude_characters="/" + "".join(UNQUOTABLE)
) | st.just(" ")
names = st.text(letters, min_size=1, max_size=12).filter(lambda name: name == name.strip() and name.strip("."))
paths = (
    st.lists(names, min_size=1, max_size=4).map(lambda parts: Path("/", *parts)).filter(lambda p: str(p).isprintable())
)


def paths_at(root: Path, user: str | None = None) -> InstallPaths:
    return InstallPaths(
        programs=root / ".venv" / "bin",
        work=root,
        config=root / "config" / "chainlake.toml",
        state=root / "state",
        lake=root / "data" / "lake",
        environment_file=root / "secrets" / "chainlake.env",
        user=user,
    )


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that everybody can read, as systemd does not test units for root."""
    folder = Path(tempfile.mkdtemp(prefix="units-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# -- systemd -----------------------------------------------------------------------------------------------------------


def as_systemd_reads(folder: Path, unit: str) -> dict[str, dict[str, list[str]]]:
    """What systemd understands: of each unit that `unit` pulls in, the values of every property."""
    runtime = folder / "run"
    runtime.mkdir(exist_ok=True)
    root = os.getuid() == 0
    if root:
        os.chown(runtime, NOBODY, NOBODY)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
    dump = subprocess.run(
        [*become, str(MANAGER), "--user", "--test", f"--unit={unit}"],
        env={
            "XDG_RUNTIME_DIR": str(runtime),
            "HOME": str(runtime),
            "SYSTEMD_UNIT_PATH": f"{folder}:",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout.decode()
    found: dict[str, dict[str, list[str]]] = {}
    for block in re.split(r"^\t-> Unit ", dump, flags=re.MULTILINE)[1:]:
        name, _, rest = block.partition(":\n")
        values = found.setdefault(name, {})
        for line in rest.splitlines():
            key, colon, value = line.strip().partition(": ")
            if colon:
                values.setdefault(key, []).append(value)
    return found


def write(files: list[File]) -> None:
    for file in files:
        file.path.write_text(file.text, encoding="utf-8")


@needs_systemd
@pytest.mark.parametrize("root", [Path("/srv/chainlake"), STRANGE])
def test_systemd_reads_the_units_as_they_were_meant(readable: Path, root: Path) -> None:
    paths = paths_at(root)
    wanted = jobs(paths, "worker")
    write(systemd.units(paths, wanted, readable, 252))
    for job in wanted:
        unit = f"{job.name}.service"
        read = as_systemd_reads(readable, unit)[unit]
        assert read["Unit Load State"] == ["loaded"]
        assert read["Description"] == [job.description]
        assert read["WorkingDirectory"] == [str(root)]
        assert read["EnvironmentFile"] == [str(paths.environment_file)]
        assert dict(each.split("=", 1) for each in read["Environment"]) == paths.environment
        assert unescaped(read["Command Line"][0]) == list(job.command)
        assert read["TimeoutStopSec"] == ["1min 30s" if job.stop_s == 90 else "1min"]
        assert (read["KillMode"], read["KillSignal"]) == (["mixed"], ["SIGTERM"])
        assert read["UMask"] == ["0077"]
        assert read["Restart"] == ["no" if job.every_minutes else "always"]
    worker = as_systemd_reads(readable, "chainlake-worker.service")["chainlake-worker.service"]
    assert "chainlake-server.service (origin-file)" in worker["After"]
    assert "chainlake-server.service (origin-file)" in worker["Wants"]
    timer = as_systemd_reads(readable, "chainlake-watch.timer")["chainlake-watch.timer"]
    assert timer["Unit Load State"] == ["loaded"]
    assert "chainlake-watch.service (origin-implicit)" in timer["Triggers"]


def unescaped(shown: str) -> list[str]:
    """The words of a command as systemd shows it: quoted for a shell."""
    said = subprocess.run(["/bin/sh"], input=f"printf '%s\\0' {shown}".encode(), capture_output=True, check=True).stdout
    return said.decode().split("\0")[:-1]


@needs_systemd
# A smaller example would cost a minute.
@settings(max_examples=6, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(roots=st.lists(paths, min_size=25, max_size=25, unique=True))
def test_no_path_is_misread_by_systemd(roots: list[Path]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="units-"))
    folder.chmod(0o755)
    try:
        sites = {f"u{number}": paths_at(root, user=None) for number, root in enumerate(roots)}
        for name, paths in sites.items():
            job = Job(name, f"runs in {paths.work}", (paths.program("chainlake"), "serve", str(paths.work)))
            write(systemd.units(paths, [job], folder, 252))
        (folder / "all.target").write_text(f"[Unit]\nWants={' '.join(f'{name}.service' for name in sites)}\n")
        read = as_systemd_reads(folder, "all.target")
        for name, paths in sites.items():
            unit = read[f"{name}.service"]
            assert unit["WorkingDirectory"] == [str(paths.work)]
            assert unit["EnvironmentFile"] == [str(paths.environment_file)]
            assert dict(each.split("=", 1) for each in unit["Environment"]) == paths.environment
            assert unescaped(unit["Command Line"][0]) == [paths.program("chainlake"), "serve", str(paths.work)]
    finally:
        shutil.rmtree(folder)


@needs_systemd
def test_the_host_s_services_may_write_where_they_have_to_and_nowhere_else(readable: Path) -> None:
    paths = paths_at(STRANGE, user="records")
    write(systemd.units(paths, jobs(paths, "serve"), readable, 252))
    read = as_systemd_reads(readable, "chainlake.service")["chainlake.service"]
    assert read["User"] == ["records"]
    assert read["ProtectSystem"] == ["strict"]
    assert read["ReadWritePaths"] == [f"{paths.state} {paths.lake}"] or read["ReadWritePaths"] == [
        str(paths.state),
        str(paths.lake),
    ]
    remote = replace(paths, lake=None)
    write(systemd.units(remote, jobs(remote, "serve"), readable, 252))
    assert as_systemd_reads(readable, "chainlake.service")["chainlake.service"]["ReadWritePaths"] == [str(paths.state)]


def programs_in(root: Path) -> InstallPaths:
    paths = paths_at(root)
    paths.programs.mkdir(parents=True)
    for name in ("python", "chainlake", "prefect"):
        (paths.programs / name).write_text("#!/bin/sh\n")
        (paths.programs / name).chmod(0o755)
    return paths


def verify(*units: Path) -> str:
    """What `systemd-analyze verify` has to complain of."""
    command = ["systemd-analyze", "verify", "--recursive-errors=no", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout + done.stderr


@needs_verify
@pytest.mark.parametrize("user", [None, "daemon"])
@pytest.mark.parametrize("mode", ["serve", "worker"])
def test_systemd_has_nothing_to_complain_of(readable: Path, mode: str, user: str | None) -> None:
    paths = replace(programs_in(readable / STRANGE.name), user=user)
    files = systemd.units(paths, jobs(paths, mode), readable, systemd.installed_version())  # type: ignore[arg-type]
    write(files)
    assert verify(*(file.path for file in files)) == ""


@needs_verify
def test_systemd_complains_of_a_path_that_is_not_escaped(readable: Path) -> None:
    """That the tests above can fail."""
    paths = programs_in(readable / STRANGE.name)
    (file,) = systemd.units(paths, jobs(paths, "serve")[:1], readable, systemd.installed_version())
    file.path.write_text(file.text.replace("%%", "%"))
    assert "not executable" in verify(file.path)


@needs_verify
def test_the_host_s_services_are_rated_safe_by_systemd(readable: Path) -> None:
    """systemd rates the exposure of a service; 10 is a root service without any restriction."""
    paths = replace(programs_in(readable / "chainlake"), user="daemon")
    for job in jobs(paths, "worker"):
        write(systemd.units(paths, [job], readable, systemd.installed_version()))
        subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--threshold=45", str(readable / f"{job.name}.service")],
            check=True,
            capture_output=True,
            timeout=60,
        )


def test_delays_between_restarts_grow_where_systemd_can_do_that() -> None:
    paths = paths_at(Path("/srv"))
    old, new = (
        systemd.units(paths, jobs(paths, "serve")[:1], Path("/etc"), version)[0].text.splitlines()
        for version in (252, 257)
    )
    assert "RestartSec=20" in old
    assert not any(line.startswith("RestartSteps") for line in old)
    assert {"RestartSec=5", "RestartSteps=6", "RestartMaxDelaySec=300"} <= set(new)


# -- launchd -----------------------------------------------------------------------------------------------------------


@given(root=paths)
def test_a_property_list_names_every_path_as_it_is(root: Path) -> None:
    paths = paths_at(root)
    wanted = jobs(paths, "worker")
    for job, file in zip(wanted, launchd.plists(paths, wanted, Path("/Users/a/Library/LaunchAgents")), strict=True):
        plist = plistlib.loads(file.text.encode())
        arguments = plist["ProgramArguments"]
        assert file.path.stem == plist["Label"] == launchd.label(job)
        assert arguments[0] == str(paths.programs / "python")
        assert tuple(arguments[arguments.index("--") + 1 :]) == job.command
        assert arguments[arguments.index("--environment-file") + 1] == str(paths.environment_file)
        assert plist["WorkingDirectory"] == str(root)
        assert plist["EnvironmentVariables"] == paths.environment


def test_a_mac_stays_awake_for_its_services_and_starts_them_again() -> None:
    paths = paths_at(Path("/Users/a/chainlake"))
    server, worker, watch = (
        plistlib.loads(file.text.encode()) for file in launchd.plists(paths, jobs(paths, "worker"), Path("/tmp"))
    )
    assert {plist["Umask"] for plist in (server, worker, watch)} == {0o077}
    for plist in (server, worker):
        assert (plist["KeepAlive"], plist["RunAtLoad"], plist["ThrottleInterval"]) == (True, True, 30)
        assert "--awake" in plist["ProgramArguments"]
    assert (server["ExitTimeOut"], worker["ExitTimeOut"]) == (60, 90)
    assert watch["StartInterval"] == 600
    assert not {"KeepAlive", "RunAtLoad"} & watch.keys()
    assert "--awake" not in watch["ProgramArguments"]
    assert "UserName" not in worker
    daemon = replace(paths, user="records")
    assert (
        plistlib.loads(launchd.plists(daemon, jobs(daemon, "serve"), Path("/tmp"))[0].text.encode())["UserName"]
        == "records"
    )


# -- what the services get ---------------------------------------------------------------------------------------------


def test_every_service_is_quiet_offline_and_on_loopback() -> None:
    paths = paths_at(Path("/srv/chainlake"))
    assert paths.environment.items() >= QUIET.items()
    assert paths.environment["PREFECT_HOME"] == "/srv/chainlake/state/prefect"
    assert paths.environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert paths.environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200,http://localhost:4200"
    assert paths.environment["NO_PROXY"] == "127.0.0.1,localhost,::1"
    # Everybody may read units.
    assert not {CLIENT, SERVER} & set(paths.environment)
    server = jobs(paths, "worker")[0]
    assert server.command[1:] == ("server", "start", "--host", "127.0.0.1", "--port", "4200")


def test_an_installation_beside_the_checkout_has_absolute_paths(tmp_path: Path) -> None:
    """Flows run in the checkout, where a relative path would mean another file."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "universe.csv").write_text("symbol\n")
    config = tmp_path / "config" / "chainlake.toml"
    config.write_text('[lake]\nroot = "../lake"\n[universe]\nfile = "config/universe.csv"\n')
    assert path_variables(load(config), tmp_path) == {
        "CHAINLAKE_LAKE__ROOT": str(tmp_path.parent / "lake"),
        "CHAINLAKE_STATE__DIR": str(tmp_path / "state"),
        "CHAINLAKE_UNIVERSE__FILE": str(tmp_path / "config" / "universe.csv"),
        "CHAINLAKE_REFERENCE__CORPORATE_ACTIONS": str(PROJECT / "config" / "corporate_actions.csv"),
        "CHAINLAKE_REFERENCE__RATES": str(PROJECT / "config" / "rates.csv"),
    }
    config.write_text('[lake]\nroot = "s3://bucket/lake"\n')
    assert "CHAINLAKE_LAKE__ROOT" not in path_variables(load(config), tmp_path)
    assert path_variables(load(config), PROJECT) == {}


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\\b", "a*", "a[1]", "line\nbreak", "tab\t", "end "])
def test_a_path_that_a_unit_cannot_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UsageError, match="rename the folder"):
        paths_at(Path("/srv") / name)


def test_the_commands_that_follow_start_the_server_then_fill_it_then_start_the_rest() -> None:
    host = Host(Path("/home/a"), Path("/home/a/.config"), 501, 255)
    paths = paths_at(Path("/srv/chainlake"))
    assert plan("systemd", "worker", paths, host).next_commands == (
        "loginctl enable-linger",
        "systemctl --user daemon-reload",
        "systemctl --user enable --now chainlake-server.service",
        "chainlake ops bootstrap",
        "systemctl --user enable --now chainlake-worker.service chainlake-watch.timer",
        "chainlake doctor",
    )
    assert plan("launchd", "serve", paths, host).next_commands == (
        "launchctl bootstrap gui/501 '/home/a/Library/LaunchAgents/org.chainlake.plist'",
        "launchctl bootstrap gui/501 '/home/a/Library/LaunchAgents/org.chainlake.watch.plist'",
        "chainlake doctor",
    )
    of_the_host = plan("systemd", "serve", replace(paths, user="records"), host)
    assert of_the_host.files[1].path == Path("/etc/systemd/system/chainlake.service")
    assert of_the_host.next_commands[1] == "sudo systemctl enable --now chainlake.service"


# -- the environment file ----------------------------------------------------------------------------------------------


def test_the_template_sets_nothing_and_every_line_of_it_can_be_taken(tmp_path: Path) -> None:
    text = environment_file.template(tmp_path / "chainlake.env")
    assert environment_file.parse(text) == {}
    offered = re.findall(r"^# ([A-Z_]+='.*')$", text, re.MULTILINE)
    assert len(offered) >= 5
    for line in offered:
        assert list(environment_file.parse(line)) == [line.partition("=")[0]]


@settings(max_examples=20)
@given(
    values=st.dictionaries(
        st.from_regex(r"X[A-Z0-9_]{1,8}", fullmatch=True),
        st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="'"), max_size=20),
        min_size=1,
        max_size=5,
    )
)
def test_a_shell_reads_the_file_as_the_services_do(values: dict[str, str]) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in values.items())
    show = "".join(f'printf "%s\\0" "${name}"\n' for name in values)
    shell = subprocess.run(["/bin/sh"], input=(text + show).encode(), capture_output=True, check=True)
    assert environment_file.parse(text) == values
    assert shell.stdout.decode().split("\0")[:-1] == list(values.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A='1'\nnonsense\n", "line 2 is no NAME='value'"),
        ("1A='x'\n", "line 1 is no NAME='value'"),
        ("A=json://one json://two\n", "line 1: put the value of A into single quotes"),
        ("A='json://one\n", "line 1: the quotes around the value of A do not match"),
    ],
)
def test_a_line_that_cannot_be_right_is_named_and_its_value_is_not_shown(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "chainlake.env"
    file.touch(mode=0o600)
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        environment_file.read(file)
    assert said in str(refused.value)
    assert "json://" not in str(refused.value)


def test_a_file_that_others_can_read_is_tightened_and_never_written_again(tmp_path: Path) -> None:
    file = File(tmp_path / "a" / "chainlake.env", "# template\n", environment_file.PRIVATE, keep=True)
    assert place(file) == "written"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.path.write_text("A='secret'\n")
    assert place(file) == "kept"
    file.path.chmod(0o644)
    assert place(file) == "kept, now readable by its owner only"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.path.read_text() == "A='secret'\n"


# -- the starter of macOS ----------------------------------------------------------------------------------------------


def start(tmp_path: Path, *command: str, awake: bool = False) -> "subprocess.Popen[bytes]":
    secrets = tmp_path / "chainlake.env"
    if not secrets.exists():
        secrets.touch(mode=0o600)
        secrets.write_text("SECRET='json://a?b=c&d %41'\n")
    options = ["--environment-file", str(secrets), "--log", str(tmp_path / "log" / "service.log")]
    return subprocess.Popen(
        [sys.executable, "-m", "chainlake.ops.install.run", *options, *(["--awake"] if awake else []), "--", *command],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
    )


def test_a_service_gets_its_environment_and_its_words_a_log(tmp_path: Path) -> None:
    service = start(tmp_path, "/bin/sh", "-c", 'echo "got $SECRET"; echo 100%s >&2; exit 7')
    assert service.wait(30) == 7
    assert (tmp_path / "log" / "service.log").read_text().splitlines() == ["got json://a?b=c&d %41", "100%s"]


def test_a_stop_reaches_the_service_and_its_flows_are_not_waited_for(tmp_path: Path) -> None:
    # The sleep is a flow that goes on, and holds the output open.
    script = "trap 'echo stopping; exit 0' TERM; sleep 40 & echo ready; while :; do sleep 0.1; done"
    service = start(tmp_path, "/bin/sh", "-c", script)
    log = tmp_path / "log" / "service.log"
    until = time.monotonic() + 30
    while not (log.exists() and "ready" in log.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    service.send_signal(signal.SIGTERM)
    assert service.wait(20) == 0
    assert log.read_text().splitlines() == ["ready", "stopping"]


def test_a_service_that_was_killed_ends_as_such(tmp_path: Path) -> None:
    assert start(tmp_path, "/bin/sh", "-c", "kill -9 $$").wait(30) == 128 + 9


def test_the_log_of_a_service_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chainlake.ops.install import run

    monkeypatch.setattr(run, "LOG_BYTES", 10_000)
    script = f"for number in range(2000): print(f'line {{number:05}} {string.ascii_letters}')"
    assert run.run([sys.executable, "-c", script], dict(os.environ), tmp_path / "service.log") == 0
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == run.LOGS_KEPT + 1
    assert all(file.stat().st_size <= 10_000 for file in kept)
    assert (tmp_path / "service.log").read_text().splitlines()[-1].startswith("line 01999")


def test_secrets_that_others_can_read_are_not_used(tmp_path: Path) -> None:
    secrets = tmp_path / "chainlake.env"
    secrets.write_text("A='1'\n")
    secrets.chmod(0o640)
    service = start(tmp_path, "/bin/true")
    assert service.wait(30) == 2
    assert service.stderr is not None
    assert "chmod 600" in service.stderr.read().decode()


def test_the_mac_is_kept_awake_by_its_own_program_as_long_as_the_service_runs(tmp_path: Path) -> None:
    """caffeinate is part of macOS alone; here a program of that name says how it was called."""
    caffeinate = tmp_path / "caffeinate"
    caffeinate.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/called"\nexec sleep 60\n')
    caffeinate.chmod(0o755)
    service = start(tmp_path, "/bin/sleep", "2", awake=True)
    assert service.wait(30) == 0
    assert (tmp_path / "called").read_text().split() == ["-is", "-w", str(service.pid)]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))
    monkeypatch.delenv("CHAINLAKE_CONFIG", raising=False)
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "home"


def test_a_dry_run_shows_every_file_and_writes_none(home: Path) -> None:
    done = [
        run_chainlake("ops", "install", manager, "--mode", "worker", "--dry-run")
        for manager in ("--systemd", "--launchd")
    ]
    assert [each.returncode for each in done] == [0, 0]
    shown = "".join(each.stdout for each in done)
    assert f"# {home}/.config/systemd/user/chainlake-worker.service" in shown
    assert f"# {home}/Library/LaunchAgents/org.chainlake.worker.plist" in shown
    assert f"# {home}/.config/chainlake/chainlake.env  (mode 0600" in shown
    assert not home.exists()
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="installs systemd units")
def test_installing_writes_units_folders_and_the_file_for_secrets_once(home: Path) -> None:
    done = run_chainlake("ops", "install", "--systemd")
    assert done.returncode == 0, done.stderr
    assert "systemctl --user enable --now chainlake.service" in done.stdout
    units = home / ".config" / "systemd" / "user"
    assert sorted(path.name for path in units.iterdir()) == [
        "chainlake-watch.service",
        "chainlake-watch.timer",
        "chainlake.service",
    ]
    secrets = home / ".config" / "chainlake" / "chainlake.env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("state").stat().st_mode) == 0o700
    secrets.write_text("CHAINLAKE_ALERT_URLS='json://127.0.0.1:1'\n")
    (units / "chainlake.service").write_text("changed")
    again = run_chainlake("ops", "install", "--systemd")
    assert again.returncode == 0, again.stderr
    assert f"kept, with a password for Prefect {secrets}" in again.stdout
    assert f"unchanged {units / 'chainlake-watch.service'}" in again.stdout
    assert f"written   {units / 'chainlake.service'}" in again.stdout
    kept = secrets.read_text()
    assert kept.startswith("CHAINLAKE_ALERT_URLS='json://127.0.0.1:1'\n")
    made = password(Path("state"))
    assert environment_file.read(secrets) == {"CHAINLAKE_ALERT_URLS": "json://127.0.0.1:1", SERVER: made, CLIENT: made}
    assert f"kept      {secrets}" in run_chainlake("ops", "install", "--systemd").stdout
    assert secrets.read_text() == kept


@pytest.mark.skipif(sys.platform == "darwin", reason="installs systemd units")
def test_a_password_of_the_services_is_that_of_commands_by_hand(home: Path) -> None:
    secrets = home / ".config" / "chainlake" / "chainlake.env"
    secrets.parent.mkdir(parents=True)
    secrets.touch(mode=0o600)
    secrets.write_text(f"{CLIENT}='chainlake:of-my-own'\n")
    assert run_chainlake("ops", "install", "--systemd").returncode == 0
    # A server without its own line would let everybody in.
    assert environment_file.read(secrets) == {CLIENT: "chainlake:of-my-own", SERVER: "chainlake:of-my-own"}
    assert password(Path("state")) == "chainlake:of-my-own"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--systemd (Linux) or --launchd (macOS)"),
        (("--systemd", "--launchd"), "--systemd (Linux) or --launchd (macOS)"),
        (("--systemd", "--dry-run", "--user", "nobody-of-this-name"), "no such user"),
        (("--systemd", "--dry-run", "--prefix", "nowhere"), "chainlake init"),
        (("--systemd", "--dry-run", "--config", "nowhere.toml"), "chainlake init"),
        (("--launchd" if sys.platform != "darwin" else "--systemd",), "--dry-run"),
    ],
)
def test_a_mistake_is_one_line(home: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run_chainlake("ops", "install", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not home.exists()
