"""The report of an evaluation for people: an HTML page, a table, a model card."""

from cxr_gan.page.card import model_card
from cxr_gan.page.html import pictures, render
from cxr_gan.page.text import summary

__all__ = ["model_card", "pictures", "render", "summary"]
