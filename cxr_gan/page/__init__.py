"""The report of an evaluation for people: one HTML page, and a table of plain text."""

from cxr_gan.page.html import pictures, render
from cxr_gan.page.text import summary

__all__ = ["pictures", "render", "summary"]
