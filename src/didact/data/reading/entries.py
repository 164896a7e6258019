"""LLaMA-Factory's `dataset_info.json`: data sets by name, with their files and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from didact.core.bounded import LONGEST_CONFIG, read_bounded
from didact.core.errors import DataError, did_you_mean
from didact.core.findings import Finding, counted
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, place
from didact.core.paths import shown as shown_place
from didact.data.reading.files import readable
from didact.data.reading.saved import snapshot_of
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import shown
from didact.data.rows.marks import MEDIA_NAMES
from didact.data.rows.turns import chat

FILE: Final = "dataset_info.json"
_MARK: Final = "#"  # between the file, or its folder, and the name of a data set
_HUBS: Final = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_LISTED: Final = 12
_SHARED: Final = ("system", "tools", *MEDIA_NAMES)  # columns that both call the same
# LLaMA-Factory's name for a column, and didact's
_ALPACA: Final = {"prompt": "instruction", "query": "input", "response": "output"}
_TAGS: Final = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "assistant",
    "system_tag": "system",
}


class Resolved(NamedTuple):
    """Paths without names of data sets, and how their rows are read."""

    paths: list[Given]
    settings: DataSettings
    findings: tuple[Finding, ...]


def resolved(paths: Sequence[Given], settings: DataSettings) -> Resolved:
    """Paths to `dataset_info.json`, or to its folder, become those of the data set's rows.

    `data/dataset_info.json#NAME` or `data#NAME` means one of several. Its columns are mapped as the
    entry says; what the settings map stays as it is.

    Raises:
        DataError: There is no such data set, several and none is named, its rows are on a hub, it
            has roles of its own, or two of them are read with different columns.
    """
    found: list[Given] = []
    read: list[DataSettings] = []  # how the rows behind each path are
    findings: list[Finding] = []
    for path in paths:
        with readable(place(path)):
            whole, name = _split(path)
            where, said = snapshot_of(whole)
            entries = _entries(where)
        findings += said
        if entries is None:
            if name is not None:
                raise DataError(
                    f"{shown_place(path)}: no such file, and {where} is no {FILE} of "
                    f"LLaMA-Factory with a data set {name!r}; check the path"
                )
            found.append(path if where == whole else where)
            read.append(settings)
            continue
        file = where / FILE if where.is_dir() else where
        name = _named(file, entries, name)
        found.append(_rows_of(file, name, entries[name]))
        read.append(_mapped(file, name, entries[name], settings))
        n = entries[name].get("num_samples")
        if isinstance(n, int):
            text = f"{name} in {FILE} takes {counted(n, 'sample')} of its rows (num_samples)"
            remedy = "didact reads all of them; select.budget says how many are taken"
            findings.append(Finding("num_samples", n, "", text, remedy))
    if any(kind != read[0] for kind in read):
        raise DataError(
            f"{', '.join(map(shown_place, paths))}: are not read with the same columns; expected "
            "one way to read the rows of a pool: run them apart"
        )
    return Resolved(found, read[0] if read else settings, tuple(findings))


def _split(path: Given) -> tuple[Place, str | None]:
    """A path, and the name of a data set behind it."""
    whole = place(path)
    given = path if isinstance(path, str) else str(path)
    before, mark, name = given.rpartition(_MARK)
    if not mark or not before or whole.exists() or not place(before).exists():
        return whole, None
    return place(before), name


def _entries(where: Place) -> dict[str, dict[str, Any]] | None:
    """The data sets of a file, or of the one in a folder; None where it is not such a file."""
    file = where / FILE if where.is_dir() else where
    if file.name != FILE or not file.is_file():
        return None
    try:
        entries = parse_json(read_bounded(file, longest=LONGEST_CONFIG))
    except ValueError:
        return None
    if not isinstance(entries, dict) or not entries:
        return None
    places = {"file_name", *_HUBS}
    of_sets = all(isinstance(e, dict) and not places.isdisjoint(e) for e in entries.values())
    return entries if of_sets else None


def _named(file: Place, entries: dict[str, dict[str, Any]], name: str | None) -> str:
    """The name of the data set that is meant."""
    if name is not None and name not in entries:
        raise DataError(f"{file}: has no data set {name!r}{did_you_mean(name, entries)}")
    if name is not None:
        return name
    named = {n: str(e["file_name"]) for n, e in entries.items() if e.get("file_name")}
    with readable(file):  # a name may be too long for any file
        local = [n for n, its_file in named.items() if (file.parent / its_file).exists()]
    if len(local) == 1 == len(entries):
        return local[0]
    among = local or list(entries)
    more = f" and {len(among) - _LISTED} more" if len(among) > _LISTED else ""
    raise DataError(
        f"{file}: names {counted(len(entries), 'data set')}; here are the rows of "
        f"{', '.join(among[:_LISTED]) if local else 'none'}{more}: say which, e.g. "
        f"{file}{_MARK}{among[0]}"
    )


def _rows_of(file: Place, name: str, entry: dict[str, Any]) -> Place:
    """Where the rows of a data set are."""
    if not isinstance(entry.get("file_name"), str):
        where = next((f"{hub} {shown(entry[hub])}" for hub in _HUBS if hub in entry), "nowhere")
        raise DataError(
            f"{file}: the rows of {name!r} are not in a file ({where}); expected file_name: "
            "download them and give their folder"
        )
    return file.parent / str(entry["file_name"])


def _mapped(file: Place, name: str, entry: dict[str, Any], settings: DataSettings) -> DataSettings:
    """The settings with the format and columns of a data set; what they have given stays."""
    chats = entry.get("formatting", "alpaca") != "alpaca"
    given = entry.get("columns", {})
    tags = entry.get("tags", {})
    if not _is_of_texts(given) or not _is_of_texts(tags):
        raise DataError(
            f"{file}: columns and tags of {name!r} are {shown(given)} and {shown(tags)}; expected "
            "objects of texts: mend the entry"
        )
    columns = {name: given[name] for name in _SHARED if given.get(name)}
    form = "text"
    if chats:
        _check_tags(file, name, tags)
        form = "messages"
        columns["messages"] = given.get("messages") or "conversations"
        named = {"role": tags.get("role_tag", "from"), "content": tags.get("content_tag", "value")}
        columns |= {ours: key for ours, key in named.items() if key not in {ours, *_SPELLED[ours]}}
    else:
        given = given or _ALPACA
        found = {ours: given.get(theirs) for theirs, ours in _ALPACA.items()}
        answers = found["output"] or entry.get("ranking") or given.get("kto_tag")
        if answers:
            form = "alpaca"
            columns |= {ours: column for ours, column in found.items() if column}
            columns |= {"history": given["history"]} if given.get("history") else {}
            columns |= {} if "input" in columns else {"input": "-"}
        elif found["instruction"]:
            columns["text"] = found["instruction"]
    if entry.get("ranking"):
        form = "preference"
        columns |= {name: given.get(name) or name for name in ("chosen", "rejected")}
    elif given.get("kto_tag"):
        form = "labelled"
        columns["label"] = given["kto_tag"]
    if form in {"preference", "labelled"} and not chats:
        columns.pop("output" if form == "preference" else "", None)
        columns["prompt"] = "-"  # the question is instruction and input, whatever they are called
    columns = {ours: column for ours, column in columns.items() if ours != column}
    return settings.model_copy(
        update={
            "columns": {**columns, **settings.columns},
            "format": form if settings.format == "auto" else settings.format,
        }
    )


_SPELLED: Final = {"role": ("from",), "content": ("value",)}  # keys of messages known as they are


def _is_of_texts(value: Any) -> bool:
    """Whether a value is an object whose values are texts, or null."""
    return isinstance(value, dict) and all(v is None or isinstance(v, str) for v in value.values())


def _check_tags(file: Place, name: str, tags: dict[str, Any]) -> None:
    """Raise DataError when a role has a name that is read as another."""
    for tag, role in _TAGS.items():
        found = tags.get(tag, role)
        if (
            not isinstance(found, str)
            or chat([{"role": found, "content": ""}], {}, tag)[0][1] != role
        ):
            raise DataError(
                f"{file}: {name!r} calls the role {role} {shown(found)} ({tag}), which is not "
                f"known as one; expected {role}, or a name that many data sets have for it: rename "
                "the role in the rows"
            )
