"""The same after a restart, another for a copy."""

import shutil
import subprocess
import sys

from client.instance import instance_of


def test_a_restart_is_the_same_and_a_copy_is_not(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.key").write_text("x")
    code = "import sys, pathlib; from client.instance import instance_of; print(instance_of(pathlib.Path(sys.argv[1])))"
    again = subprocess.run(
        [sys.executable, "-c", code, str(site)], capture_output=True, text=True, check=True
    )
    assert again.stdout.strip() == instance_of(site)
    shutil.copytree(site, tmp_path / "copy")
    assert instance_of(tmp_path / "copy") != instance_of(site)
    (site / "more").write_text("x")
    assert again.stdout.strip() == instance_of(site)
    assert len(instance_of(site)) == 32
