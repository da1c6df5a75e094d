"""Segments on a Dask cluster: a real scheduler, and real workers that are killed, stand still and come late."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rtface.config.options import Options
from rtface.errors import MissingComponent, UsageError
from rtface.jobs.job import FilmJob
from rtface_farm import farm
from rtface_farm.farm import open_to_others, scheduler_address
from rtface_farm.task import make_segment, stop
from tests.jobs import films
from tests.pipeline.run_media import write_film

ROOT = Path(__file__).resolve().parents[3]
PATHS = [str(ROOT), str(ROOT / "plugins" / "rtface-farm")]
OTHER_VERSION = "import rtface._version\nrtface._version.__version__ = '9.9'\n"


class Cluster:
    """A scheduler and workers, each a process with its own group."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder, self.processes, self._flags = folder, list[subprocess.Popen[bytes]](), flags
        self._start(
            "scheduler",
            *flags,
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--no-show",
            "--scheduler-file",
            str(folder / "scheduler.json"),
        )
        file = folder / "scheduler.json"
        until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))  # not while it is written
        address = json.loads(file.read_text())["address"]
        self.address = address.replace("tcp:", "dask:").replace("tls:", "dask+tls:")

    def _start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        paths = [*environment.pop("PYTHONPATH", "").split(os.pathsep), *PATHS]
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=self._folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self.processes.append(process)
        return process

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        return self._start(
            "worker",
            *self._flags,
            "--scheduler-file",
            str(self._folder / "scheduler.json"),
            "--no-nanny",
            "--nthreads",
            "1",
            "--no-dashboard",
            "--local-directory",
            str(self._folder),
            **environment,
        )

    def close(self) -> None:
        for process in self.processes:
            signal_group(process, signal.SIGKILL)
            process.wait(10)


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with_group = getattr(os, "killpg", None)
    if process.poll() is None and with_group is not None:
        with_group(process.pid, number)


def until(true: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def begin(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters, which end with the test."""
    pytest.importorskip("distributed")
    if os.name == "nt":
        pytest.skip("processes cannot be stopped and continued on Windows")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ExitStack() as stack:

        def made(*flags: str) -> Cluster:
            cluster = Cluster(folder, *flags)
            stack.callback(cluster.close)
            return cluster

        yield made


@pytest.fixture
def cluster(begin: Callable[..., Cluster]) -> Cluster:
    return begin()


class Run:
    """`FilmJob.run` on a cluster, in a thread."""

    def __init__(self, folder: Path, cluster: Cluster, seconds: int = 3) -> None:
        self.source, self.output = folder / "in.mkv", folder / "out.mkv"
        if not self.source.exists():
            write_film(self.source, films.scenes(25 * seconds), sound=True)
        job = FilmJob.open(
            self.source, self.output, Options(tracker="none", engine="rtface-s", codec="ffv1"), length=films.LENGTH
        )
        assert isinstance(job, FilmJob)
        self.job, self.said = job, list[str]()
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self._cluster = cluster
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self.job.run(farm=self._cluster.address, notify=self.said.append, stop=self.stop)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def end(self) -> BaseException | None:
        self._thread.join(200)
        assert not self._thread.is_alive()
        return self.error

    def begun(self) -> set[str]:
        """Files of segments that are finished or at work."""
        return {path.name for path in self.job.folder.segments.glob("*.video")}

    def check(self) -> None:
        assert films.frame_hashes(self.output) == films.frame_hashes(self.source)
        assert films.video_times(self.output) == films.video_times(self.source)
        assert not list(self.output.parent.glob("*.rtface"))


@pytest.mark.slow
def test_workers_killed_stalled_and_late(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "SILENT_S", 4.0)
    monkeypatch.setattr(farm, "END_S", 1.0)  # workers that stand still never answer
    run, first = Run(tmp_path, cluster, 4), cluster.worker()
    run.start()
    until(run.begun)
    signal_group(first, signal.SIGKILL)
    killed = run.begun()
    second = cluster.worker()
    until(lambda: run.begun() - killed)
    signal_group(second, signal.SIGSTOP)  # the scheduler does not hear of it for some seconds
    cluster.worker()
    assert run.end() is None
    run.check()


@pytest.mark.slow
def test_a_worker_that_differs_and_ctrl_c_lose_nothing(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(OTHER_VERSION)
    run = Run(tmp_path, cluster)
    cluster.worker(PYTHONPATH=str(tmp_path))
    run.start()
    error = run.end()
    assert isinstance(error, UsageError)
    assert "rtface was" in str(error) and "is 9.9 here" in str(error)
    stopped = Run(tmp_path, cluster)
    cluster.worker()
    stopped.start()
    until(stopped.job.folder.finished)
    stopped.stop.set()
    assert isinstance(stopped.end(), KeyboardInterrupt)
    finished = stopped.job.folder.finished()
    until(lambda: len(stopped.begun()) == len(stopped.job.folder.finished()), 30)
    again = Run(tmp_path, cluster)
    assert again.job.finished_earlier >= len(finished) > 0
    again.start()
    assert again.end() is None
    again.check()


@pytest.mark.slow
def test_an_encrypted_cluster(tmp_path: Path, begin: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    openssl, dask = shutil.which("openssl"), pytest.importorskip("dask")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate")
    (tmp_path / "tls").mkdir()
    key, certificate = str(tmp_path / "tls" / "key.pem"), str(tmp_path / "tls" / "certificate.pem")
    words = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    encrypted = begin("--protocol", "tls", "--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key)
    run = Run(tmp_path, encrypted, 2)
    without = Run(tmp_path, encrypted, 2)
    with monkeypatch.context() as soon:
        soon.setattr(farm, "CONNECT_S", 2.0)
        without.start()
        assert isinstance(without.end(), MissingComponent)
    encrypted.worker()
    tls = "distributed.comm.tls"
    with dask.config.set({f"{tls}.ca-file": certificate, f"{tls}.client.cert": certificate, f"{tls}.client.key": key}):
        run.start()
        assert run.end() is None
    run.check()


@pytest.mark.slow
def test_segments_share_a_process_until_it_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    source = write_film(tmp_path / "in.mkv", films.scenes(125))
    job = FilmJob.open(
        source, tmp_path / "out.mkv", Options(tracker="none", engine="rtface-s", codec="ffv1"), length=films.LENGTH
    )
    assert isinstance(job, FilmJob) and len(job.plan) >= 5
    folder, plan = job.folder, job.plan

    def process_of(number: int) -> int:
        return int(folder.read(folder.record(number))["run"].split("-")[-2])

    assert [make_segment(folder, plan, number, 1, "run") for number in (0, 1)] == [("done", "")] * 2
    first = process_of(0)
    assert process_of(1) == first

    def kill() -> None:
        until(lambda: [*folder.segments.glob("00002-*")])  # it may be done by then
        os.kill(first, 9)

    (killer := threading.Thread(target=kill)).start()
    assert make_segment(folder, plan, 2, 1, "run") in (("crashed", "its process was ended by SIGKILL"), ("done", ""))
    killer.join()
    assert ("done", "") in [make_segment(folder, plan, 3, 1, "run") for _ in range(2)]  # it may die only now
    second = process_of(3)
    assert second != first
    stop("run")
    until(lambda: not Path(f"/proc/{second}").exists())
    assert make_segment(folder, plan, 4, 1, "run") == ("stopped", "")


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(farm, "CONNECT_S", 0.5)
    source = write_film(tmp_path / "in.mkv", films.scenes(30))
    job = FilmJob.open(source, tmp_path / "out.mkv", Options(tracker="none", codec="ffv1"), length=films.LENGTH)
    assert isinstance(job, FilmJob)
    with pytest.raises(MissingComponent, match="cannot be reached"):
        job.run(farm="dask://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "address", "open"),
    [
        ("dask://localhost:8786", "tcp://localhost:8786", False),
        ("dask://127.0.0.1", "tcp://127.0.0.1:8786", False),
        ("dask://[::1]:9", "tcp://[::1]:9", False),
        ("dask+insecure://farm:8786/", "tcp://farm:8786", True),
        ("dask+tls://farm", "tls://farm:8786", False),
    ],
)
def test_addresses_of_schedulers(text: str, address: str, open: bool) -> None:
    assert scheduler_address(text) == address
    assert open_to_others(address) is open


@pytest.mark.parametrize(
    "text", ["farm:8786", "tcp://farm:8786", "dask://farm:8786", "dask://", "dask://a b:1", "ray://farm:1"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"dask(\+insecure)?://"):
        scheduler_address(text)
