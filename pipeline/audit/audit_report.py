"""What an audit found, for people and programs: lines, audit.json, audit.html."""

import base64
import collections
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

from pipeline.audit.decide import Audit
from pipeline.inspection.image_report import ImageReport
from pipeline.sources.images import SPLITS, Listing

_MOST_LINES = 10
_MOST_GROUPS_ON_PAGE = 200
_THUMBNAIL_PX = 140


def count_findings(found: Audit) -> dict[str, int]:
    """Kind of finding -> how many there are; zeros included."""
    return {
        "images left out": len(found.rejected),
        "pictures under several classes": len(found.conflicts),
        "copies left out": sum(len(names) - 1 for names in found.copies),
        "groups of near duplicates": len(found.near_duplicates),
        "odd images, used": sum(bool(finding.oddities) for finding in found.usable),
    }


def print_report(listing: Listing, found: Audit, *, where: str) -> None:
    """Prints counts of everything and the first names; where: the rest will stand."""
    for note in listing.notes:
        print(note)
    print(f"{len(listing.images)} images, {len(found.usable)} to use")
    for kind, count in count_findings(found).items():
        print(f"{count:>6} {kind}")
    lines = [f"left out {f.image.name}: {f.problem}" for f in found.rejected]
    for names in found.conflicts:
        lines.append(f"several classes: {', '.join(names)}")
    for names in found.copies:
        lines.append(f"kept {names[0]}, left out its copies {', '.join(names[1:])}")
    for names in found.near_duplicates:
        lines.append(f"kept in one split: {', '.join(names)}")
    for line in lines[:_MOST_LINES]:
        print("  " + line)
    if len(lines) > _MOST_LINES:
        print(f"  ... {len(lines) - _MOST_LINES} more, all in {where}")


def print_counts(classes: Mapping[str, Mapping[str, int]]) -> None:
    """Prints class -> split -> number of images as a table."""
    width = max(len("class"), *(len(label) for label in classes))
    print(f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    for label, by_split in sorted(classes.items()):
        print(f"{label:<{width}}" + "".join(f"{n:>12}" for n in by_split.values()))


def audit_to_json(
    listing: Listing,
    found: Audit,
    split_of: Mapping[str, str],
    settings: Mapping[str, object],
) -> dict[str, object]:
    """The content of audit.json; split_of may be empty where nothing was split."""
    counts = collections.defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for finding in found.usable:
        if split_of:
            counts[finding.image.label][split_of[finding.image.name]] += 1
    usable_of = collections.Counter(finding.image.label for finding in found.usable)
    conflict_action = {"drop": "all copies left out", "keep": "all copies used"}
    return {
        "settings": dict(settings),
        "notes": list(listing.notes),
        "images": len(listing.images),
        "findings": count_findings(found),
        "classes": dict(counts),
        "images_per_class": dict(sorted(usable_of.items())),
        "imbalance": max(usable_of.values(), default=0)
        / max(1, min(usable_of.values(), default=1)),
        "sizes": {
            name: _quantiles([getattr(finding, name) for finding in found.usable])
            for name in ("width", "height", "file_bytes", "stored_bytes")
        },
        "rejected": [
            {"name": f.image.name, "reason": f.problem, "action": "left out"}
            for f in found.rejected
        ],
        "label_conflicts": [
            {
                "names": names,
                "action": conflict_action.get(settings["conflicts"], "refused"),
            }
            for names in found.conflicts
        ],
        "copies": [
            {"names": names, "action": f"{names[0]} used, the others left out"}
            for names in found.copies
        ],
        "near_duplicates": [
            {"names": names, "action": "kept in one split"}
            for names in found.near_duplicates
        ],
        "odd": [
            {"name": f.image.name, "oddities": list(f.oddities), "action": "used"}
            for f in found.usable
            if f.oddities
        ],
    }


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    names = ("min", "5%", "median", "95%", "max", "sum")
    points = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]).tolist()
    return dict(zip(names, [*points, float(sum(values))], strict=True))


def make_page(described: Mapping[str, object], found: Audit) -> str:
    """audit.html: one page that opens without a network."""
    pictures = _thumbnails(found)
    largest = max(described["images_per_class"].values(), default=1)
    classes = "".join(
        f"<tr><td>{_text(label)}</td><td>{count}</td><td>"
        f'<div class="bar" style="width:{400 * count / largest:.0f}px"></div>'
        "</td></tr>"
        for label, count in described["images_per_class"].items()
    )
    sizes = "".join(
        _row(name, *(f"{value:,.0f}" for value in quantiles.values()))
        for name, quantiles in described["sizes"].items()
    )
    findings = "".join(_row(*item) for item in described["findings"].items())
    rejected = "".join(
        _row(item["name"], item["reason"]) for item in described["rejected"]
    )
    odd = "".join(
        _row(item["name"], ", ".join(item["oddities"])) for item in described["odd"]
    )
    settings = "".join(_row(*item) for item in described["settings"].items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Audit</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto;
       padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; }}
th, td {{ text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top;
         border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }}
.bar {{ background: #4878a8; height: .8rem; margin-top: .4rem; }}
.group {{ display: flex; flex-wrap: wrap; gap: .8rem; padding: .6rem 0;
         border-bottom: 1px solid #ddd; }}
figure {{ margin: 0; width: {_THUMBNAIL_PX}px; font-size: 11px;
         overflow-wrap: anywhere; }}
img {{ max-width: 100%; }}
</style></head><body>
<h1>Audit</h1>
<p>{described["images"]} images, {sum(described["images_per_class"].values())} to use.
{" ".join(_text(note) + "." for note in described["notes"])}</p>
<table>{findings}</table>
<h2>Classes</h2><table>{classes}</table>
<p>The largest class has {described["imbalance"]:.1f} times the images of the
smallest.</p>
<h2>Sizes</h2>
<table>{_row("", "min", "5 %", "median", "95 %", "max", "sum", tag="th")}{sizes}</table>
<h2>Pictures under several classes</h2>{_groups(found.conflicts, pictures)}
<h2>Copies</h2>
<p>The first of each is used.</p>{_groups(found.copies, pictures)}
<h2>Near duplicates</h2>
<p>Each group stays in one split.</p>{_groups(found.near_duplicates, pictures)}
<h2>Left out</h2><table>{rejected or _row("none")}</table>
<h2>Odd, used all the same</h2><table>{odd or _row("none")}</table>
<h2>Settings</h2><table>{settings}</table>
</body></html>
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _row(*cells: object, tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{_text(c)}</{tag}>" for c in cells) + "</tr>"


def _groups(groups: Sequence[Sequence[str]], pictures: Mapping[str, str]) -> str:
    shown = "".join(
        '<div class="group">'
        + "".join(
            f"<figure>{pictures.get(name, '')}<br>{_text(name)}</figure>"
            for name in names[:12]
        )
        + "</div>"
        for names in groups[:_MOST_GROUPS_ON_PAGE]
    )
    more = len(groups) - _MOST_GROUPS_ON_PAGE
    return (shown or "<p>none</p>") + (f"<p>{more} more in audit.json</p>" * (more > 0))


def _thumbnails(found: Audit) -> dict[str, str]:
    """Name -> <img> for the images that stand in a group."""
    wanted = {
        name
        for groups in (found.conflicts, found.copies, found.near_duplicates)
        for names in groups[:_MOST_GROUPS_ON_PAGE]
        for name in names[:12]
    }
    return {
        finding.image.name: _thumbnail(finding)
        for finding in found.readable
        if finding.image.name in wanted
    }


def _thumbnail(finding: ImageReport) -> str:
    with Image.open(io.BytesIO(finding.image.read())) as image:
        image.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'
