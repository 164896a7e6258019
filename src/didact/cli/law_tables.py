"""What `didact law` prints."""

from __future__ import annotations

from rich.table import Table

from didact.analysis.entropy.told import EntropyLaw
from didact.analysis.entropy.verdict import RULE
from didact.cli.printing import new_table, safe, stdout


def law_tables(law: EntropyLaw) -> None:
    """The verdict in words, fits beside rivals, deductions, doses."""
    console = stdout()
    if not console.is_terminal:  # nothing is cut off in a file
        console.width = 120
    for sentence in law.sentences():
        console.print(safe(sentence))
    if law.fits:
        console.print("")
        console.print(_fits(law))
        console.print(
            "error: root mean squared, each family left out in turn; partial: given length and "
            "similarity, of the loss given R as well"
        )
    if law.deductions:
        console.print("")
        for deduction in law.deductions:
            found = deduction.found
            agrees = {"yes": "yes", "no": "no", "cannot_tell": "cannot tell"}[deduction.agrees]
            console.print(
                f"{safe(deduction.says)} [bold]{agrees}[/bold] ({deduction.of}: "
                f"{interval(found.value, found.low, found.high)})"
            )
    if law.beside:
        console.print("")
        console.print(_beside(law))
    if law.doses:
        console.print("")
        console.print(_doses(law))
    for o in law.outliers:
        console.print(
            f"outlier: {safe(o.set)}, {o.robust_sds:+.1f} robust SDs from the {o.form} fit on "
            f"{o.feature}: {o.performance:.4g} where {o.expected:.4g} is expected"
        )
    console.print(f"rule: {RULE}")


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A correlation with its interval."""
    if value is None:
        return "not defined"
    return f"{value:+.2f}" + ("" if low is None else f", {low:+.2f} to {high:+.2f}")


def _fits(law: EntropyLaw) -> Table:
    out = new_table("performance on", "form", "error", "Spearman", "partial, 95 %")
    for fit in law.fits:
        out.add_row(
            " and ".join(fit.features), fit.form, _number(fit.loo_rmse), _signed(fit.spearman),
            interval(fit.partial, fit.low, fit.high),
        )  # fmt: skip
    for rival in law.rivals:
        out.add_row(f"rival: {rival.name}", rival.form, _number(rival.loo_rmse), "", "")
    return out


def _beside(law: EntropyLaw) -> Table:
    out = new_table("beside", "Spearman", "partial, 95 %")
    for each in law.beside:
        found = each.partial
        out.add_row(each.name, _signed(each.spearman), interval(found.value, found.low, found.high))
    return out


def _doses(law: EntropyLaw) -> Table:
    out = new_table("dose", "against", "R", "L", "performance", "95 %")
    for dose in law.doses:
        known = "" if dose.low is None else f"{dose.low:+.4f} to {dose.high:+.4f}"
        out.add_row(
            safe(dose.set), safe(", ".join(dose.base)), f"{dose.ratio:+.3f}",
            f"{dose.first_epoch_loss:+.3f}", f"{dose.performance:+.4f}", known,
        )  # fmt: skip
    return out


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
