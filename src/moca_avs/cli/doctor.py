"""`moca doctor`: what this machine can run, and why not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Doctor:
    """What this machine can run, and why not. Exit code 1 where the `lite` preset can't run.

    Example: moca doctor
    """

    def run(self) -> int:
        """Print one line per finding."""
        from moca_avs.checkup import examine

        findings = examine()
        for finding in findings:
            print(f"{finding.verdict:4}  {finding.what}: {finding.detail}")
        return 1 if any(finding.verdict == "bad" for finding in findings) else 0
