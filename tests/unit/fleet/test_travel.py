"""What travels between the machines of a fleet comes out as it went in, and nothing else does."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.environments.table import find_environment, read_environments
from tunematrix.errors import BadInput
from tunematrix.evidence.run_dir import RunDir
from tunematrix.fleet.offer import Identity, Offer, identity_of
from tunematrix.fleet.travel import Errand, Terms, pack, unpack
from tunematrix.matrix.plan import plan
from tunematrix.project import read_project
from tunematrix.results.outcome import Expected
from tunematrix.results.planned import spec_digest
from tunematrix.results.record import Record
from tunematrix.spec.loader import load_specs

ROOT = Path(__file__).parents[3]
RECORD = Record("20260101-000000-0000", "a[cpu]", "specs/a.yaml", "cpu", {}, "failed", "why")


def test_every_cell_of_the_suite() -> None:
    """Each comes out of its text as it was, and so does its spec."""
    project = read_project(ROOT, "cpu,mlx")
    found = plan(load_specs(project.spec_folders), project.groups, project.environment)
    assert len(found.cells) > 300
    across = next(one for one in found.relations if one.id == "parity-across[cpu+mlx]")
    assert [arm.cell.axes["backend"] for arm in across.arms] == ["cpu", "mlx"]
    for cell in found.cells:
        came = Errand.from_text(Errand(Terms("run"), cell).to_text())
        assert came.cell == cell
        assert (came.cell.axes, came.cell.overrides) == (cell.axes, cell.overrides)
        assert spec_digest(came.cell.spec) == spec_digest(cell.spec)
    errand = Errand(
        Terms("run", ("a:b",), watch=True, keep_output=True, strict=True),
        replace(found.cells[0], seed=3, planted="b", faults=("a:b",)),
        (Expected("ValueError", None, "why", "https://e.org", must=False),),
        alone=True,
        wants_evidence=True,
    )
    assert Errand.from_text(errand.to_text()) == errand


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"cell": {}}', '{"terms": 1, "cell": 2}'])
def test_no_errand(text: str) -> None:
    """A text that is none is refused, with what to do."""
    with pytest.raises(BadInput, match="one version of tunematrix"):
        Errand.from_text(text)


def folder(root: Path) -> RunDir:
    """A cell's folder with evidence."""
    run_dir = RunDir.create(root, "a[cpu]")
    run_dir.events.write_text("{}\n")
    run_dir.tensors.write_bytes(b"t" * 1000)
    (run_dir.output / "deep").mkdir()
    (run_dir.output / "deep/model.bin").write_bytes(b"m" * 5000)
    (run_dir.output / "link").symlink_to("/etc/passwd")
    return run_dir


def test_evidence(tmp_path: Path) -> None:
    """Files come out as they were; links don't travel."""
    run_dir = folder(tmp_path / "there")
    here = RunDir(tmp_path / "here")
    assert unpack(pack(RECORD, run_dir), here) == (RECORD, True)
    names = sorted(p.relative_to(here.path).as_posix() for p in here.path.rglob("*") if p.is_file())
    assert names == ["events.jsonl", "output/deep/model.bin", "tensors.safetensors"]
    assert unpack(pack(RECORD, None), RunDir(tmp_path / "none")) == (RECORD, False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("most", "kept", "said"),
    [
        (6100, ["events.jsonl", "output/deep/model.bin", "tensors.safetensors"], ""),
        (2000, ["events.jsonl", "tensors.safetensors"], "its output"),
        (500, ["events.jsonl"], "all but its logs"),
        (2, [], "its evidence"),
    ],
)
def test_too_much(most: int, kept: list[str], said: str, tmp_path: Path) -> None:
    """What is too large stays there, output first, and the record says so."""
    here = RunDir(tmp_path / "here")
    record, _ = unpack(pack(RECORD, folder(tmp_path / "there"), most), here)
    names = sorted(p.relative_to(here.path).as_posix() for p in here.path.rglob("*") if p.is_file())
    assert names == kept
    assert said in record.reason
    assert record.reason.startswith("why")


def parcel(*names: str, record: str | None = None) -> bytes:
    """A zip file as somebody else would make it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        if record is not None:
            archive.writestr("record.json", record)
        for name in names:
            archive.writestr(name, "x")
    return packed.getvalue()


@pytest.mark.parametrize(
    "names",
    [
        ("evidence/../../stolen",),
        ("../stolen",),
        ("/tmp/stolen",),
        ("evidence/..\\..\\stolen",),
        ("evidence",),
        ("evidence/folder/",),
        ("stolen",),
        ("evidence/fine.log", "evidence/../stolen"),
    ],
)
def test_hostile_names(names: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is written outside of the cell's folder, nor anything of such a file inside."""
    data = parcel(*names, record=json.dumps(RECORD.to_json()))
    with pytest.raises(BadInput, match="no result"):
        unpack(data, RunDir(tmp_path / "run/cell"))
    assert list(tmp_path.rglob("*")) == []


def test_hostile_content(tmp_path: Path) -> None:
    """What is no zip file, has no record, too much, or a record with more in it, is refused."""
    run_dir = RunDir(tmp_path / "cell")
    more = json.dumps({**RECORD.to_json(), "more": 1})
    whole = pack(RECORD, folder(tmp_path / "there"))
    for data in (b"", b"nonsense", parcel("evidence/a"), parcel(record="[]"), parcel(record=more)):
        with pytest.raises(BadInput, match="no result"):
            unpack(data, run_dir)
    with pytest.raises(BadInput, match="more files than a worker sends"):
        unpack(whole, run_dir, largest=100)
    with pytest.raises(BadInput, match="no result"):
        unpack(whole[: len(whole) // 2], run_dir)
    assert not run_dir.path.exists()


def test_who_is_unlike() -> None:
    """A difference is told by name; the same project is never unlike itself."""
    own = identity_of(read_project(ROOT, "cpu"))
    assert own.unlike(identity_of(read_project(ROOT, "mlx"))) == ""
    spec = "shipped/specs/lora.yaml"
    changed = replace(own, files={**own.files, spec: "0"})
    assert own.unlike(changed) == f"its project differs: {spec} (changed)"
    assert changed.digest != own.digest
    less = replace(own, files={name: v for name, v in own.files.items() if name != spec})
    assert own.unlike(less) == f"its project differs: {spec} (missing there)"
    assert less.unlike(own) == f"its project differs: {spec} (there alone)"
    assert "another project" in own.unlike(replace(own, files={"specs/x.yaml": "1"}))
    assert "is 9.9" in own.unlike(replace(own, version="9.9"))
    assert "other code" in own.unlike(replace(own, code="0"))
    assert "Dask distributed is 1" in own.unlike(replace(own, dask="1"))


def test_offers() -> None:
    """An offer is plain data; names of distributions are compared as pip does."""
    identity = Identity("1", "2", "3", {"a": "b"})
    versions = {"optimum-quanto": "0.2"}
    offer = Offer("n", "cpu", ("cpu",), 2, identity, "3.11", "Linux", {"cpu": "x"}, 1, versions)
    assert Offer.from_json(json.loads(json.dumps(offer.to_json()))) == offer
    assert (offer.version("optimum.quanto"), offer.version("torch")) == ("0.2", None)
    for strange in (None, {}, {**offer.to_json(), "places": "many"}):
        with pytest.raises(BadInput):
            Offer.from_json(strange)


def test_joined_environments() -> None:
    """Several names make one environment, in which the first has a backend's cells."""
    rows = read_environments(ROOT, [])
    both = find_environment("mps,mlx", rows)
    assert (both.name, both.backends) == ("mps+mlx", ("mps", "mlx"))
    assert both.of("mlx").name == "mps"
    assert find_environment("mps+mlx", rows) == both
    assert rows["mlx"].of("mlx") == rows["mlx"]
    with pytest.raises(BadInput, match="cpx is not an environment"):
        find_environment("cpx,mlx", rows)
