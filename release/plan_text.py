"""A plan as a table for a person to read."""

from __future__ import annotations

from rich.table import Table

from open360.release.plan import Plan, RevisionPlan

MAX_ROWS = 60


def plan_table(plan: Plan) -> Table:
    """One row a revision: what is uploaded, left, deleted; the totals below. Long series are shortened."""
    table = Table(
        title=f"{plan.name} {plan.version} -> {plan.primary.id}, tag {plan.tag}",
        title_justify="left",
        caption_justify="left",
        show_footer=True,
    )
    table.add_column("repository", footer="all")
    table.add_column("revision", footer=f"{len(plan.revisions)} revisions")
    table.add_column("upload", justify="right", footer=_files(plan.revisions, "upload"))
    table.add_column("leave", justify="right", footer=_files(plan.revisions, "leave"))
    table.add_column("delete", justify="right", footer=_files(plan.revisions, "delete"))
    table.add_column("bytes", justify="right", footer=f"{plan.bytes:,}")
    table.add_column("commits", justify="right", footer=str(plan.commits))
    half = MAX_ROWS // 2
    shown = plan.revisions if len(plan.revisions) <= MAX_ROWS else (*plan.revisions[:half], *plan.revisions[-half:])
    for index, revision in enumerate(shown):
        if index == half and len(shown) < len(plan.revisions):
            table.add_row(f"… {len(plan.revisions) - len(shown)} more …")
        table.add_row(
            str(revision.repo) + (" (new)" if revision.repo in plan.create else ""),
            revision.revision,
            _files((revision,), "upload"),
            _files((revision,), "leave"),
            _files((revision,), "delete"),
            f"{revision.bytes:,}",
            str(revision.commits),
        )
    if plan.complete:
        table.caption = f"{plan.tag} is published already: nothing is left to do."
        return table
    table.add_row(str(plan.primary), "main", "manifest", "", "", "", "1")
    table.caption = (
        f"{plan.api_calls} calls and {plan.commits} commits: at least {plan.hours:.1f} h by the Hub's limits. "
        "Nothing is visible before the tag, which is set last."
    )
    return table


def _files(revisions: tuple[RevisionPlan, ...], what: str) -> str:
    count = sum(len(getattr(revision.difference, what)) for revision in revisions)
    return str(count) if count else "-"
