"""tools/audit.py: what it makes of pip-audit's reports, and the real pip-audit with a stand-in.

The stand-in speaks OSV's protocol and is told what to know: whether the real services answer so has
not been seen, as no network was there.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler

import pytest

from espnet_dq.errors import WorkError
from tests.loopback import serve
from tools import audit

GOOD = {"name": "jiwer", "version": "4.0.0", "vulns": []}
GAP = {"name": "av", "skip_reason": "Dependency not found on PyPI and could not be audited"}
BAD = {
    "name": "requests",
    "version": "2.19.0",
    "vulns": [{"id": "PYSEC-2018-28", "fix_versions": ["2.20.0"], "aliases": ["CVE-2018-18074"]}],
}


def test_only_if_all_are_looked_up_and_good(capsys):
    assert audit.judge([GOOD, GOOD]) == "audit: no fault is known of any of 2 packages"
    for packages in ([GOOD, GAP], [GAP], []):  # pip-audit calls each of these clean
        with pytest.raises(audit.Skipped, match=f"^skipped: . of {len(packages)} packages not"):
            audit.judge(packages)
    assert capsys.readouterr().out == ""


def test_faults_are_named_gaps_or_not(capsys):
    for packages in ([BAD, GOOD], [BAD, GAP]):
        with pytest.raises(WorkError, match="of 1 of 2 packages"):
            audit.judge(packages)
        assert capsys.readouterr().out == (
            "requests 2.19.0: PYSEC-2018-28, CVE-2018-18074; fixed in 2.20.0\n"
        )


def test_without_a_network_it_is_skipped(monkeypatch, tmp_path):
    """Not even pip-audit is there to be asked."""
    monkeypatch.setattr(audit, "HOME", tmp_path / "audit")
    for name, value in (("UV_DEFAULT_INDEX", "http://127.0.0.1:9/"), ("UV_HTTP_RETRIES", "0"),
                        ("UV_NO_CACHE", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(audit.Skipped, match=r"^skipped: pip-audit cannot be installed: ") as error:
        audit.main([])
    assert "\n" not in str(error.value) and error.value.exit_code == 3


def test_nothing_of_the_current_folder_is_run(monkeypatch, tmp_path):
    """pip-audit starts `python -m pip`."""
    program = tmp_path / "audit/bin/pip-audit"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\n{sys.executable} -m json.tool --help > /dev/null\n"
        'echo \'{"dependencies": []}\' > "$7"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(audit, "HOME", tmp_path / "audit")
    (tmp_path / "argparse.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert audit.ask(tmp_path / "requirements.lock") == []
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def service(monkeypatch, tmp_path):
    """Function ({package: ids of its faults}) -> options that make pip-audit ask a stand-in."""
    if not (audit.HOME / "bin/pip-audit").is_file():
        pytest.skip("pip-audit is installed by: make audit")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"jiwer==4.0.0 --hash=sha256:{'0' * 64}\nav==18.1.0 --hash=sha256:{'1' * 64}\n")
    monkeypatch.setattr(audit, "LOCK", lock)
    monkeypatch.setattr(audit, "install", lambda: None)
    known: dict[str, list[str]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            faults = [
                {"id": x, "affected": [{"package": asked["package"]}]}
                for x in known.get(asked["package"]["name"], [])
            ]
            content = json.dumps({"vulns": faults} if faults else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serve(Handler) as address:

        def options(faults):
            known.update(faults)
            return ["-s", "osv", "--osv-url", f"{address}/v1/query"]

        yield options


def test_the_real_pip_audit(service, capsys):
    with pytest.raises(audit.Skipped, match="cannot be asked: no fault of it is known there"):
        audit.main(service({}))
    assert audit.main(service({"pyyaml": ["CVE-2020-1747"]})) == 0
    assert capsys.readouterr().out == "audit: no fault is known of any of 2 packages\n"
    with pytest.raises(WorkError, match="of 1 of 2 packages"):
        audit.main(service({"av": ["CVE-1", "CVE-2"]}))
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == [f"av 18.1.0: CVE-{n}; fixed in no release" for n in (1, 2)]
    with pytest.raises(audit.Skipped, match=r"no answer of the service: .*refused"):
        audit.main(["-s", "osv", "--osv-url", "http://127.0.0.1:9/v1/query"])
