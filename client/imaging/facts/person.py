"""Whose image it is: one Patient ID may stand for two people (placeholders, two issuers, a mistyped number).

Witnesses beside the ID: its issuer, the name, the birth date, the sex. Two images are of different people if
their issuers differ, if two of the other three do, or if one does and none agrees: a name changes (part of it
may stay), a date is mistyped, but not both.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from pydicom import Dataset

from client.imaging.facts.text import text


@dataclass(frozen=True, slots=True)
class Person:
    """What a file says of its patient; empty where it says nothing. Leaves this package never."""

    issuer: str = ""
    name: str = ""
    born: str = ""
    sex: str = ""

    def differs(self, other: "Person") -> bool:
        """Whether they can hardly be one."""
        if self.issuer and other.issuer and self.issuer != other.issuer:
            return True
        same = [a == b for a, b in ((self.born, other.born), (self.sex, other.sex)) if a and b]
        if self.name == other.name or not self.words & other.words:  # part of a name in common says nothing
            same += [self.name == other.name] if self.name and other.name else []
        return same.count(False) >= 2 or (False in same and True not in same)

    @property
    def words(self) -> set[str]:
        """Of the name."""
        return set(self.name.split())


NOBODY = Person()


def person_of(ds: Dataset) -> Person:
    """Names without order, case and punctuation; a sex that is neither F nor M says nothing."""
    sex = text(ds, "PatientSex").upper()
    return Person(
        text(ds, "IssuerOfPatientID").upper(),
        " ".join(sorted(re.findall(r"\w+", text(ds, "PatientName").split("=")[0].upper()))),
        text(ds, "PatientBirthDate").replace(".", ""),
        sex if sex in ("F", "M") else "",
    )


def are_several(people: Iterable[Person]) -> bool:
    """Whether any two of them differ."""
    return any(a.differs(b) for a, b in combinations(set(people), 2))
