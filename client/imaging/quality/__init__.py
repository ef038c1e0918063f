"""What a cohort is like, before anything trains on it: for the hospital's own eyes, as a page and as JSON.

No identifier is in it, not even a pseudonym; but the page shows patients' images, and small counts: it stays
at the site.
"""

from client.imaging.quality.facts import Doubt, Quality, describe
from client.imaging.quality.page import render_page

__all__ = ["Doubt", "Quality", "describe", "render_page"]
