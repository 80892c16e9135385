"""The styles of the page, which stand in it: a browser fetches a style sheet a tenth of a second after the page."""

import base64
import hashlib

from influcoder.report.environment import environment

PAGES = environment("influcoder.serve", "influcoder.report")
"""the templates of the page, which shares parts and styles with the report"""
STYLES = PAGES.get_template("explorer.css").render()
STYLES_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLES.encode()).digest()).decode()}'"
"""what allows these styles and no others, as a Content-Security-Policy has it"""
