"""What we file, as a real viewer shows it: OHIF before Orthanc, in Chromium (for docs/gallery.py).

Orthanc and a small server of OHIF's files, which passes /dicom-web on to it, run on loopback and end with this.
"""

import base64
import contextlib
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

OHIF = "@ohif/app@3.13.2"
WAIT_S, SETTLES_S = 90.0, 8.0
"""For the page at most, and for its images to be drawn, without a GPU."""
SAYS = """(() => {
  [...document.querySelectorAll("button, a, span")].find(one => one.textContent === "Skip all")?.click();
  return document.body ? document.body.innerText : "";
})()"""
"""What the page says; the tour for newcomers is sent away."""
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


def fetch_ohif(work: Path) -> Path:
    """The folder of OHIF's files, from npm."""
    subprocess.run(["npm", "pack", "--silent", OHIF], cwd=work, check=True, capture_output=True)
    (archive,) = work.glob("ohif-app-*.tgz")
    subprocess.run(["tar", "xzf", str(archive), "-C", str(work)], check=True)
    return work / "package" / "dist"


def show(work: Path, files: list[Path], place: tuple[str, str], awaited: str, picture: Path) -> str:
    """A series (`place`: UIDs of study and series) in OHIF, as a PNG of 1280 x 800; returns what the page says
    once `awaited` is in it, after WAIT_S at most."""
    ohif = fetch_ohif(work)
    with orthanc(work) as address:
        for file in files:
            request = urllib.request.Request(f"{address}/instances", data=file.read_bytes())
            urllib.request.urlopen(request).read()
        handler = partial(Files, orthanc=address, directory=str(ohif))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            where = f"StudyInstanceUIDs={place[0]}&initialSeriesInstanceUID={place[1]}"
            said = _look(
                work, f"http://127.0.0.1:{server.server_address[1]}/viewer?{where}", awaited, picture
            )
            server.shutdown()
    return said


def _look(work: Path, url: str, awaited: str, picture: Path) -> str:
    """In Chromium, by its own protocol: the page goes on loading for as long as it likes."""
    words = [
        "chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", f"--user-data-dir={work}/viewer-profile",
        "--window-size=1280,800", "--remote-debugging-port=0", url,
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_page_of(work / "viewer-profile"), max_size=None) as chromium:

            def ask(method: str, **parameters: object) -> dict[str, Any]:
                chromium.send(json.dumps({"id": 1, "method": method, "params": parameters}))
                return next(one for text in chromium if (one := json.loads(text)).get("id") == 1)["result"]

            end, said = time.monotonic() + WAIT_S, ""
            while awaited not in said and time.monotonic() < end:
                time.sleep(1.0)
                said = ask("Runtime.evaluate", expression=SAYS)["result"].get("value") or ""
            time.sleep(SETTLES_S)
            ask("Runtime.evaluate", expression=SAYS)  # the tour comes with the images
            time.sleep(1.0)
            picture.write_bytes(base64.b64decode(ask("Page.captureScreenshot")["data"]))
            return said
    finally:
        process.terminate()
        process.wait()


def _page_of(profile: Path) -> str:
    """Where Chromium is spoken to about its page, once it is up."""
    for _ in range(100):
        with contextlib.suppress(OSError, ValueError, IndexError):
            port = (profile / "DevToolsActivePort").read_text(encoding="utf-8").split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                (page, *_) = [one for one in json.load(answer) if one["type"] == "page"]
            return str(page["webSocketDebuggerUrl"])
        time.sleep(0.2)
    raise SystemExit("chromium did not start")
