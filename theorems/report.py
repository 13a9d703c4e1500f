"""One set of facts, for the terminal, notebooks, pages and other programs: the report of a verification."""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .claims import Claim, Evidence, Outcome, Source
from .ledger import Ledger
from .verify import complaint

SCHEMA = 1
SEVERITIES = ("critical", "warning", "info")


@dataclass
class Report:
    """Evidence on the claims of a ledger, as it comes in.

    Attributes:
        ledger: the claims.
        evidence: every record so far.
        controls: evidence on the deliberately broken variants, which must fail.
        settings: what was asked for.
        complete: False when the run was interrupted.
        watch: asked after each record whether to stop.
    """

    ledger: Ledger
    evidence: list[Evidence] = field(default_factory=list)
    controls: list[Evidence] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    complete: bool = True
    watch: Callable[[], bool] = field(default=lambda: False, repr=False)

    def add(self, evidence: Evidence | None) -> None:
        """Take in a record; None is nothing to take in.

        Raises:
            KeyboardInterrupt: after taking it in, when `watch` says that a stop was asked for.
        """
        if evidence is not None:
            self.evidence.append(evidence)
        if self.watch():
            raise KeyboardInterrupt

    def add_control(self, evidence: Evidence | None) -> None:
        """Take in the evidence on a negative control."""
        if evidence is not None:
            self.controls.append(evidence)

    def __getitem__(self, claim_id: str) -> list[Evidence]:
        """Return the evidence on one claim, exact first, then search, then observed."""
        claim = self.ledger[claim_id]
        order = list(Source)
        return sorted((e for e in self.evidence if e.claim == claim.id), key=lambda e: order.index(e.source))

    def of(self, claim: Claim, source: Source) -> list[Evidence]:
        """Return the evidence on a claim from one source."""
        return [e for e in self.evidence if e.claim == claim.id and e.source is source]

    def complaints(self) -> list[tuple[Evidence, str]]:
        """List what is not as the ledger says it must be, with the reason."""
        found = [(e, complaint(self.ledger[e.claim], e)) for e in self.evidence]
        for control in self.controls:
            text = (
                ""
                if control.outcome is Outcome.FAILS
                else f"negative control was not rejected ({control.note})"
            )
            found.append((control, text))
        return [(e, text) for e, text in [*found, *self._gaps()] if text]

    def _gaps(self) -> list[tuple[Evidence, str]]:
        """List the claims that a finished report has nothing on: silence is no pass."""
        seen = {(e.claim, e.source) for e in self.evidence}
        checked = {e.claim.rstrip("~") for e in self.controls}
        searched = any(source is Source.SEARCH for _, source in seen)
        gaps = []
        for claim in self.ledger if self.complete else ():
            missing = [Source.EXACT] if claim.exact and (claim.id, Source.EXACT) not in seen else []
            missing += (
                [Source.SEARCH]
                if searched and claim.strategy and (claim.id, Source.SEARCH) not in seen
                else []
            )
            missing += ["negative control"] if claim.control and claim.id not in checked else []
            gaps += [
                (Evidence(claim.id, claim.theorem, Source.EXACT), f"has no {what} evidence")
                for what in missing
            ]
        return gaps

    @property
    def ok(self) -> bool:
        """Whether every outcome is what the ledger says it must be."""
        return not self.complaints()

    def severity(self, evidence: Evidence) -> str:
        """Rank a record: critical if it contradicts the ledger, warning if it decides nothing, else info."""
        if complaint(self.ledger[evidence.claim], evidence):
            return "critical"
        undecided = evidence.outcome in (
            Outcome.ASSUMPTION_VIOLATED,
            Outcome.INCONCLUSIVE,
            Outcome.NOT_JUDGED,
        )
        return "warning" if undecided and self.ledger[evidence.claim].judgement.stands else "info"

    @property
    def records(self) -> list[dict[str, Any]]:
        """Flat records, as they stand in the JSON file."""
        return [record_of(e) | {"severity": self.severity(e)} for e in self.evidence]

    def to_json(self) -> dict[str, Any]:
        """Return the versioned form that other programs may rely on."""
        return {
            "header": header() | {"complete": self.complete, "ok": self.ok, "settings": self.settings},
            "records": self.records,
            "controls": [record_of(e) | {"broken": e.note} for e in self.controls],
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON file in one piece: an interrupted write leaves the old file as it was."""
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    def observed(self, *ids: str) -> dict[tuple[str, str], dict[str, list[Evidence]]]:
        """Group what trained networks say on some claims by (network, method), then by claim."""
        groups: dict[tuple[str, str], dict[str, list[Evidence]]] = {}
        for evidence in self.evidence:
            if evidence.source is Source.OBSERVED and evidence.subject and evidence.claim in ids:
                key = evidence.subject["network"], evidence.subject["method"]
                groups.setdefault(key, {}).setdefault(evidence.claim, []).append(evidence)
        return groups

    def counts(self) -> Counter:
        """Count the records by source and outcome."""
        return Counter((e.source, e.outcome) for e in self.evidence)

    def __repr__(self) -> str:
        """Show the verdict and the counts."""
        verdict = "as the ledger says" if self.ok else f"{len(self.complaints())} complaints"
        return f"Report({len(self.evidence)} records on {len(self.ledger)} claims: {verdict})"


def header() -> dict[str, Any]:
    """Versions, platform and device: what a result may depend on besides the settings."""
    import jax  # not at the top: listing claims needs no backend

    packages = (
        "peftproof",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "numpy",
        "scipy",
        "sympy",
        "hypothesis",
        "scikit-learn",
    )
    return {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": str(jax.devices()[0].device_kind),
    }


def record_of(evidence: Evidence) -> dict[str, Any]:
    """Flatten a piece of evidence; exact numbers appear as floats, and as text beside them."""
    exact = evidence.source is not Source.OBSERVED and not isinstance(evidence.lhs, float | int | None)
    return {
        "claim": evidence.claim,
        "theorem": evidence.theorem,
        "source": str(evidence.source),
        "subject": evidence.subject,
        "lhs": _number(evidence.lhs),
        "relation": evidence.relation,
        "rhs": _number(evidence.rhs),
        "margin": _number(evidence.margin),
        "tolerance": _number(evidence.tolerance),
        "by_chance": evidence.by_chance,
        "statistics": {name: _number(value) for name, value in evidence.statistics.items()},
        "assumptions": [
            {"name": a.name, "met": bool(a.met), "value": _plain(a.value)} for a in evidence.assumptions
        ],
        "outcome": str(evidence.outcome),
        "seconds": round(evidence.seconds, 6),
        "slack": _number(evidence.slack),
        "count": evidence.count,
        "failing": evidence.failing,
        "note": evidence.note,
        "error": evidence.error,
        "layers": [
            {k: v if isinstance(v, str) else _number(v) for k, v in row.items()} for row in evidence.layers
        ],
        "exact": {"lhs": str(evidence.lhs), "rhs": str(evidence.rhs)} if exact else None,
    }


def load(path: str | Path) -> dict[str, Any]:
    """Read a report's JSON file.

    Raises:
        ValueError: a file that is no report, or of another schema version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        schema = data["header"]["schema"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no peftproof report ({error}): write one with 'peftproof verify --json'"
        ) from None
    if schema != SCHEMA:
        raise ValueError(f"{path} has schema {schema}, this version reads {SCHEMA}: write it anew")
    return data


def diff(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List in plain words which outcomes changed between two reports, and what came or went."""

    def keyed(data: dict[str, Any]) -> dict[tuple, str]:
        keyed: dict[tuple, str] = {}
        for record in data["records"]:
            subject = tuple((record["subject"] or {}).values())
            label = record["note"] if record["source"] == "exact" else ""
            keyed[record["claim"], record["source"], subject, label] = record["outcome"]
        return keyed

    before, after = keyed(old), keyed(new)
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            name = " ".join(str(part) for part in (*key[:2], *key[2], key[3]) if str(part))
            lines.append(f"{name}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}")
    return lines


def _number(value: Any) -> float | None:
    """Finite numbers as they are; JSON has no others."""
    return None if value is None or not math.isfinite(float(value)) else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else _number(value)
