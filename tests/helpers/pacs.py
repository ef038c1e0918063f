"""A real PACS: Orthanc with its DICOMweb plug-in, in a network of its own that has nothing but a loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

from client.settings import SiteFolder
from tests.helpers import warm
from tests.helpers.tools import require_tool

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STORESCU = "/usr/bin/storescu"  # dcmtk's: pynetdicom brings a command of the same name
AT_ONCE = {"TCP_NODELAY": "1"}  # dcmtk, in Orthanc too, holds small messages back otherwise: 90 ms a file
DICOM, WEB, OURS = 4242, 8042, 11112


@dataclass
class House:
    """A hospital's network: Orthanc, a site, and the commands that run in it."""

    path: Path
    prefix: list[str]
    orthanc: subprocess.Popen | None = None
    processes: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *command, **more) -> subprocess.Popen:
        environment = {**os.environ, **AT_ONCE}
        process = subprocess.Popen(
            [*self.prefix, *map(str, command)], text=True, cwd=self.path, env=environment, **more
        )
        self.processes.append(process)
        return process

    def pneumofed(self, *command, **more) -> subprocess.Popen:
        return self.start(*warm.command(), *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def run(self, *command) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [*self.prefix, *map(str, command)],
            text=True,
            cwd=self.path,
            capture_output=True,
            timeout=120,
            env={**os.environ, **AT_ONCE},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start_orthanc(self) -> None:
        config = {
            "Name": "test", "StorageDirectory": str(self.path / "orthanc"), "IndexDirectory": str(self.path / "orthanc"),
            "Plugins": [str(PLUGIN)], "HttpPort": WEB, "DicomPort": DICOM, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "StableAge": 1, "SyncStorageArea": False,
            "DicomModalities": {"us": ["PNEUMOFED", "127.0.0.1", OURS]}, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }  # fmt: skip
        (self.path / "orthanc.json").write_text(json.dumps(config))
        with (self.path / "orthanc.out").open("a") as out:
            self.orthanc = self.start("Orthanc", "orthanc.json", stdout=out, stderr=out)
        self.wait_until("Orthanc answers", lambda: self.studies() is not None)

    def end_orthanc(self, number=signal.SIGTERM) -> None:
        self.orthanc.send_signal(number)
        self.orthanc.wait()

    def studies(self) -> int | None:
        """How many studies Orthanc has; None if it does not answer."""
        return self.count("studies")

    def count(self, what: str) -> int | None:
        """How many studies or instances Orthanc has; None if it does not answer."""
        command = [*self.prefix, sys.executable, "-c", ASK, str(WEB), what]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return int(done.stdout) if done.returncode == 0 else None

    def ask(self, path: str) -> str:
        """What Orthanc's own interface answers."""
        return self.run(sys.executable, "-c", GET, WEB, path).stdout

    def series_of(self, study: str) -> list[dict[str, str]]:
        """The main tags of the series of a study, by Orthanc's name of it."""
        return [one["MainDicomTags"] for one in json.loads(self.ask(f"studies/{study}/series"))]

    def push(self, study: str) -> None:
        """Let Orthanc send a study to us."""
        self.run(sys.executable, "-c", PUSH, WEB, study)

    def instance(self, uid: str) -> Dataset:
        """An instance as Orthanc gives it back."""
        path = self.path / "back.dcm"
        self.run(sys.executable, "-c", FETCH, WEB, uid, path)
        return dcmread(path)

    def fill(self, *folders: Path) -> None:
        """Start Orthanc with the images of some folders."""
        self.start_orthanc()
        store = (STORESCU, "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", DICOM)
        self.run(*store, *folders, "--scan-pattern", "*.dcm")
        self.end_orthanc()  # it writes its index to the disk now and then, and when it ends
        self.start_orthanc()
        assert self.count("instances") == sum(len(list(folder.glob("*.dcm"))) for folder in folders)

    def wait_until(self, what, condition, timeout=60.0):
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited {timeout} s until {what}"
            time.sleep(0.1)

    def site(self, name: str, data: Path, **pacs) -> SiteFolder:
        """A site's folder whose hospital.yaml names the PACS. All sites have one secret, so that their
        cohorts can be compared."""
        folder = SiteFolder(self.path / name)
        folder.path.mkdir(mode=0o700)
        source = {"dicom": str(data)} if not pacs else {"pacs": {"images_per_second": 10_000.0, **pacs}}
        text = json.dumps({"server": "localhost:443", "data": {"labels": str(data / "labels.csv"), **source}})
        folder.settings_file.write_text(text)
        folder.secret.write_bytes(b"k" * 64)
        folder.secret.chmod(0o600)
        return folder


@contextmanager
def a_house(path: Path) -> Iterator[House]:
    """A house in a network namespace of its own, which is gone afterwards, as is all that runs in it."""
    for tool in ("Orthanc", STORESCU, "ip"):
        require_tool(tool)
    assert PLUGIN.exists(), "Orthanc is here, its DICOMweb plug-in is not"
    name = f"pfh{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True, capture_output=True)
    house = House(path, ["ip", "netns", "exec", name])
    try:
        yield house
    finally:
        for process in house.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


ASK = """
import sys, urllib.request, json
print(len(json.load(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/{sys.argv[2]}", timeout=5))))
"""
GET = """
import sys, urllib.request
print(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/{sys.argv[2]}", timeout=20).read().decode())
"""
PUSH = """
import sys, urllib.request
base = f"http://127.0.0.1:{sys.argv[1]}"
urllib.request.urlopen(urllib.request.Request(base + "/modalities/us/store", data=sys.argv[2].encode())).read()
"""
FETCH = """
import sys, urllib.request, json
base = f"http://127.0.0.1:{sys.argv[1]}"
(found,) = json.load(urllib.request.urlopen(urllib.request.Request(base + "/tools/lookup", data=sys.argv[2].encode())))
open(sys.argv[3], "wb").write(urllib.request.urlopen(f"{base}/instances/{found['ID']}/file").read())
"""
