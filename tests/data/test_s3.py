"""Films and datasets in a bucket of a real S3 server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from nih_folder import write_release
from s3_server import BUCKET, S3Server
from tcia_folder import TciaFolder

from radflow import s3_requests, storage
from radflow.data.config import PreprocessConfig
from radflow.data.crops.lesions import CropConfig
from radflow.data.dataset import shards
from radflow.data.dataset.copies import on_disk
from radflow.data.dataset.reading import Dataset, verify_dataset
from radflow.data.preprocess import preprocess
from radflow.errors import JobError, UserError
from radflow.files import cache_folder
from radflow.s3_requests import client, with_retries
from radflow.storage import S3Path, locate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server, which tests may kill and start again."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "store")
    server.start()
    yield server
    server.kill()
    client.cache_clear()


@pytest.fixture
def server(store: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server with an empty bucket, the environment of a user and an empty cache."""
    for name, value in {**store.environment, "RADFLOW_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 10)
    shutil.rmtree(store.bucket)
    store.bucket.mkdir()
    storage._listing.cache_clear()
    storage._sources.clear()
    return store


@pytest.fixture
def _another_user() -> Iterator[None]:
    """A process with other settings, which makes its own client."""
    client.cache_clear()
    yield
    client.cache_clear()


def url(name: str) -> str:
    return f"s3://{BUCKET}/{name}"


def run(source: Path | str, out: Path | str, image_size: int = 32, **settings: object) -> Dataset:
    return preprocess(PreprocessConfig(source=str(source), out=str(out), image_size=image_size, workers=1, **settings))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_films_in_a_bucket_equal_those_in_a_folder(server: S3Server, tmp_path: Path) -> None:
    names = write_release(server.bucket / "nih", films=40)
    (server.bucket / "nih" / "images" / names[5]).write_bytes(b"torn")
    (server.bucket / "nih" / "images" / names[6]).unlink()
    folder = run(server.bucket / "nih", tmp_path / "folder", max_rejected=0.1)
    bucket = run(url("nih"), tmp_path / "bucket", max_rejected=0.1)
    assert bucket.digest == folder.digest
    assert bucket.manifest.rejected == 2
    assert f"no image file in {url('nih')}" in (bucket.path / "rejected.csv").read_text()


def test_archives_in_a_bucket_are_streamed(server: S3Server, tmp_path: Path) -> None:
    names = write_release(server.bucket / "nih", films=40)
    folder = run(server.bucket / "nih", tmp_path / "folder")
    for number, part in ((1, names[:20]), (2, names[20:])):
        with tarfile.open(server.bucket / "nih" / f"images_{number:03d}.tar.gz", "w:gz") as packed:
            for name in part:
                packed.add(server.bucket / "nih" / "images" / name, f"images/{name}")
    shutil.rmtree(server.bucket / "nih" / "images")
    assert run(url("nih"), tmp_path / "archives").digest == folder.digest


def test_mammograms_in_a_bucket_equal_those_in_a_folder(server: S3Server, tmp_path: Path) -> None:
    folder = TciaFolder(server.bucket / "cbis")
    for patient in range(1, 6):
        part = "Test" if patient == 5 else "Training"
        folder.add_film(f"Mass-{part}_P_{patient:05d}_LEFT_CC", ((30, 20, 12, 10),))
    folder.write_csvs()
    runs = [run(source, tmp_path / name, crops=CropConfig(crop_size=40))
            for name, source in (("folder", folder.folder), ("bucket", url("cbis")))]  # fmt: skip
    assert runs[0].digest == runs[1].digest
    assert runs[0].manifest.rows > 20


def test_a_data_set_in_a_bucket_exists_when_it_is_whole(server: S3Server, tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=80)
    folder = run(tmp_path / "nih", tmp_path / "folder")

    def interrupt(done: int, total: int, rejected: int) -> None:
        if done == 60:
            raise KeyboardInterrupt

    config = PreprocessConfig(source=str(tmp_path / "nih"), out=url("deep/set"), image_size=32, workers=1)
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, interrupt)
    sent = {path.name: path.stat().st_mtime_ns for path in (server.bucket / "deep" / "set").iterdir()}
    assert "train-00000.arrow" in sent
    assert "manifest.json" not in sent
    with pytest.raises(UserError, match=f"no dataset at {url('deep/set')}"):
        on_disk(locate(url("deep/set")))

    uploaded = preprocess(config)
    assert uploaded.digest == folder.digest
    assert contents(server.bucket / "deep" / "set") == contents(folder.path)
    for name, moment in sent.items():  # what was there is not sent a second time
        assert (server.bucket / "deep" / "set" / name).stat().st_mtime_ns == moment
    assert uploaded.path.parent == cache_folder() / "datasets"
    with pytest.raises(UserError, match=r"holds a dataset already; give out= another prefix"):
        preprocess(config)


def test_a_data_set_is_fetched_once_a_machine_and_verified(server: S3Server, tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=80)
    whole = run(tmp_path / "nih", tmp_path / "whole")
    shutil.copytree(whole.path, server.bucket / "set")
    script = (
        "from radflow.data.sample import dataset_folder; from radflow.terminal import show_log; show_log(); "
        f"print(dataset_folder({url('set')!r}))"
    )
    ranks = [subprocess.Popen([sys.executable, "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, "PYTHONPATH": str(Path(storage.__file__).parent.parent)})
             for _ in range(3)]  # fmt: skip
    answers = [rank.communicate(timeout=120) for rank in ranks]
    folders = {out.strip() for out, _ in answers}
    assert folders == {str(tmp_path / "cache" / "datasets" / whole.digest)}
    assert sum("fetching" in err for _, err in answers) == 1
    assert contents(Path(folders.pop())) == contents(whole.path)

    shutil.rmtree(tmp_path / "cache")
    shard = server.bucket / "set" / "train-00001.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"train-00001\.arrow is damaged: its SHA-256 differs"):
        on_disk(locate(url("set")))
    assert not (tmp_path / "cache" / "datasets" / whole.digest).exists()
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert verify_dataset(on_disk(locate(url("set")))).digest == whole.digest


def test_a_data_set_in_a_bucket_that_lacks_a_shard_is_one_line(server: S3Server, tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=24)
    shutil.copytree(run(tmp_path / "nih", tmp_path / "whole").path, server.bucket / "set")
    (server.bucket / "set" / "val-00000.arrow").unlink()
    with pytest.raises(UserError, match=f"{url('set')} is not whole: {url('set')}/val-00000.arrow is missing; upload"):
        on_disk(locate(url("set")))


def test_a_manifest_that_names_files_elsewhere_is_refused(server: S3Server, tmp_path: Path) -> None:
    write_release(tmp_path / "nih", films=24)
    whole = run(tmp_path / "nih", tmp_path / "whole")
    (server.bucket / "set").mkdir()
    manifest = (whole.path / "manifest.json").read_text().replace("train-00000.arrow", "../../../escaped.arrow")
    (server.bucket / "set" / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=r"'\.\./\.\./\.\./escaped\.arrow' is not a plain file name"):
        on_disk(locate(url("set")))


def test_a_reader_goes_on_where_the_connection_broke(server: S3Server) -> None:
    content = os.urandom(40 * 2**20)
    (server.bucket / "large").write_bytes(content)
    with locate(url("large")).open("rb") as reader:
        head = reader.read(3 * 2**20)
        server.kill()
        threading.Timer(1.0, server.start).start()
        assert head + reader.read() == content
        reader.seek(-1000, os.SEEK_END)
        assert reader.read() == content[-1000:]


def test_a_reader_gives_up_and_never_joins_two_versions(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "PATIENCE_SECONDS", 1.0)
    (server.bucket / "large").write_bytes(bytes(40 * 2**20))
    with locate(url("large")).open("rb") as reader:
        reader.read(2**20)
        server.kill()
        with pytest.raises(JobError, match=r"the store of s3://films/large has been away .*; start again to go on"):
            reader.read()
        (server.bucket / "large").write_bytes(bytes(39 * 2**20))
        server.start()
        with pytest.raises(UserError, match="was replaced while it was read"):
            reader.read()


def test_listing_and_random_access(server: S3Server) -> None:
    for name in ("images_001/images/a.png", "images_002/images/b.PNG", "images/c.png", "list.txt", "empty"):
        path = server.bucket / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "empty" else name)
    (server.bucket / "setting").mkdir()
    (server.bucket / "setting" / "other.png").touch()
    with zipfile.ZipFile(server.bucket / "set" / "films.zip", "w") as packed:
        packed.writestr("x.png", "first" * 1000)
        packed.writestr("y.png", "second" * 1000)
    place = locate(url("set"))
    assert isinstance(place, S3Path)
    assert str(place) == url("set")
    local = server.bucket / "set"
    for pattern in ("*", "images_*/images", "*/*.[pP][nN][gG]", "*/*/*.[pP][nN][gG]", "*.txt*"):
        assert sorted(str(path.relative_to(place)) for path in place.glob(pattern)) == sorted(
            str(path.relative_to(local)) for path in local.glob(pattern)
        )
    assert [path.name for path in place.rglob("*.png")] == ["c.png", "a.png"]
    assert (place / "images").is_dir()
    assert (place / "list.txt").is_file()
    assert not (place / "lis").exists()
    assert (place / "empty").read_bytes() == b""
    with pytest.raises(FileNotFoundError):
        (place / "nothing").open("rb")
    with (place / "films.zip").open("rb") as file, zipfile.ZipFile(file) as packed:
        assert packed.read("y.png") == b"second" * 1000
        assert packed.read("x.png") == b"first" * 1000


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://no-such-bucket/set", r"s3://no-such-bucket/set: no such bucket at http://127.0.0.1:\d+; create it"),
        ("s3://", r"'s3://' names no bucket; expected s3://bucket/prefix"),
        ("s3://UPPER_case/x", r"'s3://UPPER_case/x' names no bucket"),
        (url("nothing"), f"no dataset at {url('nothing')}: manifest.json is missing"),
    ],
)
def test_a_wrong_place_is_one_line(server: S3Server, place: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        on_disk(locate(place))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_another_user")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            r"refuses this access key \(SignatureDoesNotMatch\); set AWS_",
        ),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not answer .*; start it, or correct AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9"}, "the S3 endpoint is not an address: .*; expected such as https"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_EC2_METADATA_DISABLED": "true"},
            "Unable to locate credentials; set AWS_ACCESS_KEY_ID",
        ),
    ],
)
def test_wrong_settings_are_one_line(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as error:
        locate(url("set"))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_another_user")
def test_the_endpoint_of_mlflow_is_used_where_none_is_set_for_aws(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (server.bucket / "film").write_text("here")
    assert locate(url("film")).read_bytes() == b"here"


def answer(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize("passing", [answer("RequestTimeout", 400), answer("SlowDown", 503), answer("Throttling", 400)])
def test_an_answer_that_passes_is_asked_for_again(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, passing: ClientError
) -> None:
    monkeypatch.setattr(s3_requests, "FIRST_PAUSE", 0.01)
    answers = iter([passing, passing])

    def request() -> str:
        for error in answers:
            raise error
        return "here"

    assert with_retries(Path("film"), request) == "here"


@pytest.mark.parametrize(("code", "status"), [("ExpiredToken", 400), ("TokenRefreshRequired", 400)])
def test_credentials_that_expire_end_a_job_and_are_no_mistake_in_it(server: S3Server, code: str, status: int) -> None:
    def request() -> None:
        raise answer(code, status)

    with pytest.raises(JobError, match=rf"have expired \({code}\); renew them and start again"):
        with_retries(Path("film"), request)
