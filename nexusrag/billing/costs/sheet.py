"""Reports as CSV (RFC 4180), safe to open in a spreadsheet: no cell that we did not compute can begin a formula."""

import csv
import io
from collections.abc import Mapping
from typing import Any

COLUMNS = ("component", "provider", "model", "rate_type", "route_class", "user_id", "key_id", "quantity", "usd", "estimated", "priced")
# What spreadsheets take for the beginning of a formula, or skip before one (OWASP, CSV injection).
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'", "|", "%")


def sheet(report: Mapping[str, Any]) -> str:
    """One row for each line of the report, with the exact amount, and one for the total."""
    written = io.StringIO()
    rows = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    rows.writerow([*COLUMNS, "currency", "period_start", "period_end"])
    period = [report["currency"], report["period_start"].isoformat(), report["period_end"].isoformat()]
    for line in report["breakdown_json"]["lines"]:
        amounts = {"usd": line["usd_exact"], "quantity": line["quantity"]}
        rows.writerow([*(amounts.get(name) or cell(line[name]) for name in COLUMNS), *period])
    totals = {"component": "total", "usd": report["breakdown_json"]["total_usd_exact"]}
    rows.writerow([*(totals.get(name, "") for name in COLUMNS), *period])
    return written.getvalue()


def cell(value: Any) -> str:
    """Text that a spreadsheet shows and never computes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f"'{text}" if text.lstrip().startswith(_DANGEROUS) or text.startswith(_DANGEROUS) else text
