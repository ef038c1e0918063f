"""Whose image it is: one Patient ID may stand for two people (placeholders, two issuers, a mistyped number).

Witnesses beside the ID: its issuer, the name, the birth date, the sex. Two images are of different people if
their issuers differ, if two of the other three do, or if one does and none agrees: a name changes (part of it
may stay), a date is mistyped, but not both. A name may be told in plain letters, in ideographs and by sound
(PS3.5 6.2.1): those are compared that both files have.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from pydicom import Dataset

from client.imaging.facts.moment import parse_date
from client.imaging.facts.text import text


@dataclass(frozen=True, slots=True)
class Person:
    """What a file says of its patient; empty where it says nothing. Leaves this package never."""

    issuer: str = ""
    name: str = ""
    born: str = ""
    sex: str = ""
    other_names: tuple[str, ...] = ()  # in ideographs, by sound

    def differs(self, other: "Person") -> bool:
        """Whether they can hardly be one."""
        if self.issuer and other.issuer and self.issuer != other.issuer:
            return True
        same = [a == b for a, b in ((self.born, other.born), (self.sex, other.sex)) if a and b]
        both = [(a, b) for a, b in zip(self.names, other.names, strict=False) if a and b]
        if any(a == b for a, b in both):
            same.append(True)
        elif both and not any(set(a.split()) & set(b.split()) for a, b in both):
            same.append(False)  # part of a name in common says nothing
        return same.count(False) >= 2 or (False in same and True not in same)

    @property
    def names(self) -> tuple[str, ...]:
        """In each way in which it is told; empty where it is not."""
        return (self.name, *self.other_names)


NOBODY = Person()


def person_of(ds: Dataset) -> Person:
    """Names without order, case and punctuation; a sex that is neither F nor M says nothing, nor does a date
    that is none."""
    sex, born = text(ds, "PatientSex").upper(), parse_date(text(ds, "PatientBirthDate"))
    name, *other_names = (
        " ".join(sorted(re.findall(r"\w+", told.upper()))) for told in text(ds, "PatientName").split("=")
    )
    return Person(
        text(ds, "IssuerOfPatientID").upper(),
        name,
        f"{born:%Y%m%d}" if born else "",
        sex if sex in ("F", "M") else "",
        tuple(other_names),
    )


def are_several(people: Iterable[Person]) -> bool:
    """Whether any two of them differ."""
    return any(a.differs(b) for a, b in combinations(set(people), 2))
