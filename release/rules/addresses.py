"""The rule about addresses outside the Hub: what the spec names is still there."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urljoin

from open360.release.evidence.addresses import AddressState, Gone, There, Unreachable
from open360.release.evidence.declared_addresses import AddressGroup, address_groups
from open360.release.evidence.once import once
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.listed_view import CannotCheckError
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView

MAX_SHOWN = 3
FILES_OF_A_CHECKPOINT = ("config.yaml", ".metadata.json", "config.json", "model.safetensors", "model.pt", "train.pt")
FOLDERS_TRIED = 8  # folders of a group in which every one of these files is looked for

States = dict[str, AddressState]


class DeadAddress(Rule):
    """An address that the spec names leads nowhere.

    ## What it does
    Asks the host of every declared address (of a sample, with `--sample`) whether there is something: links, code,
    sources, lists and data files, the trainer's own checkpoints, every row of published lists of checkpoints, logs,
    configurations and records. Of a folder that cannot be listed it asks for the files that a checkpoint has. Only an
    answer that there is nothing (404, 410) counts: a host that does not answer says nothing.

    ## Why is this bad?
    What was promised cannot be had, and who relies on it finds out one by one.

    ## Example
    `native: https://…/stage1/step{step}/`, of which 1,415 of 1,415 answer 404.

    ## Remedy
    Put it back, correct the address, or keep a copy in a repository of the release and name that.

    ## Seen in practice
    All 1,415 rows of the first stage in a list of OLMo 3 were dead while the other stages answered; the address of a
    hybrid model's data differed from the true one by one segment of its path.
    """

    code = "HUB003"
    name = "dead-address"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Groups of addresses: those at one place of the spec."""
        return sum(bool(group.urls) for group, _ in _looked_at(release))

    def unseen(self, release: ReleaseView) -> int:
        """Those of them without an answer, or with addresses outside the sample, as far as none is gone."""
        return sum(
            len(states) < len(set(group.urls)) or not any(_answered(state) for state in states.values())
            for group, states in _looked_at(release)
            if not any(isinstance(state, Gone) for state in states.values())
        )

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each place in the spec, however many addresses stand there."""
        looked = _looked_at(release)
        states = [state for _, found in looked for state in found.values()]
        unreachable = [state.reason for state in states if isinstance(state, Unreachable)]
        if states and len(unreachable) == len(states):
            raise CannotCheckError(f"none of {len(states)} addresses can be reached: {unreachable[0]}")
        for group, found in looked:
            dead = [url for url, state in found.items() if isinstance(state, Gone)]
            if dead:
                answered = sum(_answered(state) for state in found.values())
                shown = ", ".join(dead[:MAX_SHOWN]) + ", …" * (len(dead) > MAX_SHOWN)
                sampled = f", of {len(group.urls)} declared," if len(found) < len(group.urls) else ""
                count = "is" if len(group.urls) == 1 else f"{len(dead)} of {answered} addresses{sampled} are"
                message = f"{group.what}: {count} gone: {shown}"
                fix = "put it back, correct the address, or keep a copy in a repository of the release"
                yield self.finding(release.place(group.pointer), group.subject, message, fix)


def _answered(state: AddressState) -> bool:
    return isinstance(state, There | Gone)


@once
def _looked_at(release: ReleaseView) -> list[tuple[AddressGroup, States]]:
    """Every group with the state of its (sampled) addresses. Raises CannotCheckError for a folder."""
    _ = release.addresses
    return [(group, _states(release, group)) for group in address_groups(release)]


def _states(release: ReleaseView, group: AddressGroup) -> States:
    wanted = release.sampled(group.urls, lambda url: url)
    found = release.addresses.states(wanted)
    folders = [url for url, state in found.items() if isinstance(state, Gone) and url.endswith("/")]
    return found | _states_of_folders(release, folders)


def _states_of_folders(release: ReleaseView, folders: list[str]) -> States:
    """States of folders that cannot be listed, by the files that they may hold."""
    there = {url: inside for url in folders[:FOLDERS_TRIED] if (inside := _file_in(release, url)) is not None}
    likely = list(dict.fromkeys(there.values())) or [FILES_OF_A_CHECKPOINT[0]]
    rest = [url for url in folders if url not in there]
    asked = {(url, name): urljoin(url, name) for url in rest for name in likely}
    states = release.addresses.states(asked.values())
    there |= {url: name for (url, name), inside in asked.items() if isinstance(states[inside], There)}
    return {url: There(bytes=None) for url in there}


def _file_in(release: ReleaseView, folder: str) -> str | None:
    for name in FILES_OF_A_CHECKPOINT:
        if isinstance(release.addresses.state(urljoin(folder, name)), There):
            return name
    return None
