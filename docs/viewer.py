"""What we file, as a real viewer shows it: OHIF before Orthanc, in Chromium (for docs/gallery.py).

Orthanc and a small server of OHIF's files, which passes /dicom-web on to it, run on loopback and end with this.
"""

import contextlib
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

OHIF = "@ohif/app@3.13.2"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
CONFIG = """window.config = {
  routerBasename: "/", extensions: [], modes: [], showStudyList: true, maxNumberOfWebWorkers: 2,
  showWarningMessageForCrossOrigin: false, investigationalUseDialog: { option: "never" },
  defaultDataSourceName: "dicomweb",
  dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "dicomweb",
    configuration: {
      friendlyName: "Orthanc", name: "orthanc", wadoUriRoot: "/dicom-web", qidoRoot: "/dicom-web", wadoRoot: "/dicom-web",
      qidoSupportsIncludeField: false, imageRendering: "wadors", thumbnailRendering: "wadors", enableStudyLazyLoad: true,
      supportsFuzzyMatching: false, supportsWildcard: true, omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true },
    },
  }],
};"""


class Files(http.server.SimpleHTTPRequestHandler):
    """OHIF's files; what is no file is its one page; /dicom-web is Orthanc's."""

    def __init__(self, *args: object, orthanc: str, **kwargs: object) -> None:
        self._orthanc = orthanc
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web"):
            self._pass_on()
        elif self.path.split("?")[0] == "/app-config.js":
            self._answer(200, "text/javascript", CONFIG.encode())
        else:
            if not Path(self.translate_path(self.path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _pass_on(self) -> None:
        wanted = urllib.request.Request(
            self._orthanc + self.path, headers={"Accept": self.headers.get("Accept", "*/*")}
        )
        try:
            with urllib.request.urlopen(wanted, timeout=30) as answer:
                self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        except urllib.error.HTTPError as e:
            self._answer(e.code, "text/plain", b"")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def free_port() -> int:
    """On loopback."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def orthanc(work: Path) -> Iterator[str]:
    """Its address."""
    web, dicom = free_port(), free_port()
    settings = {
        "Name": "gallery", "StorageDirectory": str(work / "orthanc"), "IndexDirectory": str(work / "orthanc"),
        "Plugins": [PLUGIN], "HttpPort": web, "DicomPort": dicom, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (work / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (work / "orthanc.out").open("w") as log:
        process = subprocess.Popen(["Orthanc", str(work / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{web}"
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/system", timeout=2).read()
                break
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def show(work: Path, files: list[Path], study: str, picture: Path, series: str | None = None) -> None:
    """A study in OHIF, its first series that is not ours or `series`, as a PNG of 1280 x 800."""
    subprocess.run(["npm", "pack", "--silent", OHIF], cwd=work, check=True, capture_output=True)
    (archive,) = work.glob("ohif-app-*.tgz")
    subprocess.run(["tar", "xzf", str(archive), "-C", str(work)], check=True)
    with orthanc(work) as address:
        for file in files:
            urllib.request.urlopen(
                urllib.request.Request(f"{address}/instances", data=file.read_bytes())
            ).read()
        handler = partial(Files, orthanc=address, directory=str(work / "package" / "dist"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            more = f"&initialSeriesInstanceUID={series}" if series else ""
            url = f"http://127.0.0.1:{server.server_address[1]}/viewer?StudyInstanceUIDs={study}{more}"
            words = [
                "chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--use-gl=angle", "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", f"--user-data-dir={work}/viewer-profile",
                "--window-size=1280,800", "--timeout=45000", f"--screenshot={picture}", url,
            ]  # fmt: skip
            subprocess.run(words, capture_output=True, check=True, timeout=180)
            server.shutdown()
