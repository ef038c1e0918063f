"""Which other hospitals this one counts on in secure aggregation: their names, and the fingerprints of their
identities, as people told each other by telephone. The server introduces hospitals; it could invent some."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.errors import ConfigError
from common.files import changing, write_atomically
from common.secure.keys import Advert
from common.secure.messages import Objection
from common.text import printable

log = logging.getLogger("pneumofed.peers")

_DIGITS = 32


class Peers:
    """The file of confirmed peers. Every question is answered from the disk."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def confirmed(self) -> dict[str, str]:
        """Name -> fingerprint. Raises ConfigError if the file cannot be read."""
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(name): normal(str(fingerprint)) for name, fingerprint in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError):
            raise ConfigError(
                f"{self._file}: cannot be read; remove it and confirm the peers again"
            ) from None

    def confirm(self, name: str, fingerprint: str) -> None:
        """From now on the hospital `name` is whoever holds the key with this fingerprint."""
        self.confirm_all({name: fingerprint})

    def confirm_all(self, fingerprints: Mapping[str, str]) -> None:
        """Several at once, by name. Raises ConfigError for a name that is none."""
        if not all(name.strip() for name in fingerprints):
            raise ConfigError("found an empty name, expected that of the hospital in the federation")
        told = {name: normal(fingerprint) for name, fingerprint in fingerprints.items()}
        with changing(self._file):
            self._write({**self.confirmed(), **told})

    def revoke(self, name: str) -> None:
        """Raises ConfigError for a hospital that is not confirmed."""
        with changing(self._file):
            known = self.confirmed()
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{printable(name, 60)!r} is no confirmed peer; known: {listed}")
            del known[name]
            self._write(known)

    def objections(self, adverts: Iterable[Advert]) -> dict[str, Objection]:
        """Site -> what is wrong with it, of those whose identity no person here confirmed under this name."""
        known, found = self.confirmed(), {}
        for advert in adverts:
            if advert.site not in known:
                found[advert.site] = Objection.UNKNOWN
            elif known[advert.site] != advert.fingerprint:
                found[advert.site] = Objection.OTHER_KEY
        for site, why in found.items():
            log.warning(
                "%s %s; ask that hospital, then: pneumofed client peers confirm", printable(site, 60), why
            )
        return found

    def _write(self, known: dict[str, str]) -> None:
        write_atomically(self._file, (json.dumps(known, indent=2, sort_keys=True) + "\n").encode())


def normal(fingerprint: str) -> str:
    """In capitals, in groups of four. Raises ConfigError for anything else."""
    digits = "".join(fingerprint.split()).replace(":", "").upper()
    if len(digits) != _DIGITS or not set(digits) <= set("0123456789ABCDEF"):
        raise ConfigError(
            f"found the fingerprint {printable(fingerprint, 60)!r}, expected {_DIGITS} hex digits"
        )
    return " ".join(digits[k : k + 4] for k in range(0, _DIGITS, 4))
