"""Export of the committed project into one ZIP archive, with metadata, that others can check.

It holds every committed file, the report as a PDF if it is there, and descriptions in the forms
that archives and journals read: a Process Run RO-Crate, CodeMeta, Zenodo, CODECHECK.
"""

import hashlib
import json
import mimetypes
import zipfile
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import yaml

from repro import ReproError, __version__, in_short, plural
from repro.records import Archive, Record
from repro.records.provenance import git_says
from repro.words.exhibits import NOTEBOOKS
from repro.words.experiments import KEPT_PROFILES

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
ARTICLE = "https://arxiv.org/abs/1802.04537"
LICENCE = "https://spdx.org/licenses/MIT"
DATE_IN_ZIP = (1980, 1, 1, 0, 0, 0)  # of every file, so that the same content is the same archive
NOT_IN_ARCHIVE = (".github/", ".ci/")

CRATE = "ro-crate-metadata.json"  # in an archive: its files, with hashes
MADE_BY_EXPORT = (CRATE, "codemeta.json", "codecheck.yml")


def write_archive(project: Path, target: Path) -> str:
    """Write the ZIP archive to ``target``, and return a line of text on its content.

    Raises ReproError where there is no git, or where a committed file has been changed.
    """
    if target.exists() and not target.is_file():
        raise ReproError(f"{target} is no file; name a new one")
    names = _committed(project)
    if target.resolve() in {(project / name).resolve() for name in names}:
        raise ReproError(f"{target} is a file of the project; name a new one")
    content = {name: (project / name).read_bytes() for name in names}
    report = project / "_build" / "report.pdf"
    if report.is_file():
        content["report.pdf"] = report.read_bytes()
    about = cited(project)
    archive = Archive(project / "results")
    found = archive.of_profiles(*KEPT_PROFILES)
    project = project.absolute()
    places = {(project / name).parent for name in names if name.endswith("config.json")}
    records = [record for record in found if record.path in places]
    codecheck = yaml.safe_dump(_codecheck(about, content), sort_keys=False, allow_unicode=True)
    content |= {
        "codemeta.json": _as_json(_codemeta(about)),
        ".zenodo.json": _as_json(_zenodo(about)),
        "codecheck.yml": codecheck.encode(),
    }
    content[CRATE] = _as_json(crate(content, records, about, project))
    _write_zip(target, f"repro-{__version__}", content)
    with_pdf = "" if report.is_file() else ", without the PDF (make pdf writes it)"
    return f"{plural(len(content), 'file')}, {plural(len(records), 'record')}{with_pdf}"


def _committed(project: Path) -> list[str]:
    """The names of the files for the archive, which are as they are committed; or ReproError."""
    committed = git_says(project, "ls-files", "-z")
    if not committed:
        raise ReproError(f"{project} has no git, which knows what belongs to the archive")
    if git_says(project, "status", "--porcelain", "--untracked-files=no") != "":
        raise ReproError("there are changes that are not committed; commit them first")
    names = [name for name in committed.split("\0") if name]
    for name in (*names, "_build/report.pdf"):
        if (project / name).is_symlink() or not name.isprintable():
            raise ReproError(f"{name!r} is a link, or no name for an archive; leave it out")
    return [name for name in names if not name.startswith(NOT_IN_ARCHIVE)]


def cited(project: Path) -> dict:
    """The content of ``CITATION.cff``, with the authors' names and the commit."""
    names = []
    try:
        content = yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))
        for author in content["authors"]:
            parts = (author.get("given-names"), author.get("family-names"))
            names.append(author.get("name") or " ".join(filter(None, parts)))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReproError(f"CITATION.cff cannot be read ({in_short(error)}); mend it") from None
    return content | {"names": names, "commit": git_says(project, "rev-parse", "HEAD")}


def _as_json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _write_zip(target: Path, folder: str, content: dict[str, bytes]) -> None:
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with zipfile.ZipFile(partial, "x", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(content):
                info = zipfile.ZipInfo(f"{folder}/{name}", DATE_IN_ZIP)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, content[name])
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


# The RO-Crate


def crate(content: dict[str, bytes], records: Sequence[Record], about: dict, project: Path) -> dict:
    """The RO-Crate metadata: each file with its hash, each record as the result of an action."""
    people = [_entity(f"#{_id(n)}", "Person", name=n) for n in about["names"]]
    files = [_file(name, data) for name, data in sorted(content.items())]
    places = [f"{record.path.relative_to(project.absolute()).as_posix()}/" for record in records]
    folders = [_folder(r, place, content) for r, place in zip(records, places, strict=True)]
    actions = [_action(r, place, people[0]) for r, place in zip(records, places, strict=True)]
    described = _entity(CRATE, "CreativeWork", about=_ref("./"), conformsTo=_ref(FORM))
    root = _entity(
        "./",
        "Dataset",
        name=about["title"],
        description="Code, records, exhibits and book of a reproduction; see README.md",
        datePublished=str(about["date-released"]),
        license=_ref(LICENCE),
        author=_refs(people),
        conformsTo=_ref(PROFILE),
        hasPart=_refs([*files, *folders]),
        mentions=_refs(actions),
    )
    others = [*WORKS, *people, SOFTWARE, *_datasets(records), *files, *folders, *actions]
    context = [f"{FORM}/context", {"sha256": SHA256_TERM}]
    return {"@context": context, "@graph": [described, root, *others]}


FORM = "https://w3id.org/ro/crate/1.1"
SHA256_TERM = "https://w3id.org/ro/terms/workflow-run#sha256"


def _entity(identifier: str, kind: str, /, **says) -> dict:
    return {"@id": identifier, "@type": kind, **says}


def _ref(identifier: str) -> dict[str, str]:
    return {"@id": identifier}


def _refs(entities: Iterable[dict]) -> list[dict[str, str]]:
    return [_ref(entity["@id"]) for entity in entities]


def _id(words: str) -> str:
    """A fragment that names an entity of the crate."""
    return "".join(c if c.isalnum() else "-" for c in words.lower())


WORKS = (
    _entity(LICENCE, "CreativeWork", name="MIT License", identifier="MIT"),
    _entity(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5"),
)
SOFTWARE = _entity(
    "#repro",
    "SoftwareApplication",
    name="repro",
    description="Trains and measures the models; its source is in this crate",
    version=__version__,
    url=ARTICLE,
)


def _file(name: str, data: bytes) -> dict:
    return _entity(
        name,
        "File",
        name=name,
        contentSize=str(len(data)),
        encodingFormat=mimetypes.guess_type(name)[0] or "application/octet-stream",
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _datasets(records: Sequence[Record]) -> list[dict]:
    """Each version of the images that a model was trained on; the files are not in the crate."""
    variants = {r.provenance.data["sha256"]: r.provenance.data for r in records}
    return [
        _entity(
            _id_of_data(data),
            "Dataset",
            name=data["variant"],
            description=f"{data['name']}; SHA-256 of the arrays of images: {data['sha256']}",
        )
        for data in variants.values()
    ]


def _id_of_data(data: dict) -> str:
    return f"#data-{data['sha256'][:12]}"


def _folder(record: Record, folder: str, content: dict[str, bytes]) -> dict:
    e = record.experiment
    return _entity(
        folder,
        "Dataset",
        name=f"{e.profile}/{e.setting_folder}/{e.name}",
        description="The record of a run: settings, metrics, curve, images, provenance",
        hasPart=[_ref(name) for name in sorted(content) if name.startswith(folder)],
    )


def _action(record: Record, folder: str, agent: dict) -> dict:
    """The action that made a record: its agent, instrument, object and time."""
    e = record.experiment
    provenance = record.provenance
    made = "measured" if e.profile == "published" else "trained and measured"
    return _entity(
        f"#run-{_id(folder)}",
        "CreateAction",
        name=f"{e.name} on {e.dataset} was {made}",
        description=f"{e.command}; on {provenance.device}; code: commit {provenance.commit}",
        instrument=_ref(SOFTWARE["@id"]),
        agent=_ref(agent["@id"]),
        object=_ref(_id_of_data(provenance.data)),
        result=_ref(folder),
        endTime=provenance.date,
        actionStatus=_ref("http://schema.org/CompletedActionStatus"),
    )


# Other descriptions


def _codemeta(about: dict) -> dict:
    return {
        "@context": "https://doi.org/10.5063/schema/codemeta-2.0",
        "@type": "SoftwareSourceCode",
        "name": "repro",
        "description": about["title"],
        "version": __version__,
        "license": LICENCE,
        "author": [{"@type": "Person", "name": name} for name in about["names"]],
        "programmingLanguage": "Python",
        "referencePublication": ARTICLE,
    }


def _zenodo(about: dict) -> dict:
    return {
        "title": about["title"],
        "upload_type": "software",
        "description": "Code, records, exhibits and book of a reproduction.",
        "version": __version__,
        "license": "MIT",
        "creators": [{"name": name} for name in about["names"]],
        "related_identifiers": [
            {"identifier": "arXiv:1802.04537", "relation": "isSupplementTo", "scheme": "arxiv"}
        ],
    }


def _codecheck(about: dict, names: Container[str]) -> dict:
    shown = [f"notebooks/{name}.ipynb" for name in NOTEBOOKS]
    return {
        "version": "https://codecheck.org.uk/spec/config/1.0/",
        "source": f"commit {about['commit']}; check it with: python -m repro verify",
        "paper": {
            "title": about["title"],
            "authors": [{"name": name} for name in about["names"]],
            "reference": ARTICLE,
        },
        "manifest": [{"file": name} for name in (*shown, "report.pdf") if name in names],
    }
