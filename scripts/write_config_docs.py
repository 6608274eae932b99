"""Write `.env.example` and `docs/reference/config.md` from the settings; tests compare them."""

from __future__ import annotations

from pathlib import Path

from hedgelock.config import env_example, reference_page

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Overwrite both files."""
    (ROOT / ".env.example").write_text(env_example(), encoding="utf-8")
    page = ROOT / "docs" / "reference" / "config.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(reference_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
