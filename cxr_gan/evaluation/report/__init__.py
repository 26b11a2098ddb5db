"""Reports of an evaluation for people: an HTML page, a text table, a model card."""

from cxr_gan.evaluation.report.html import pictures, render
from cxr_gan.evaluation.report.model_card import model_card
from cxr_gan.evaluation.report.plots import import_matplotlib
from cxr_gan.evaluation.report.text import summary

__all__ = ["import_matplotlib", "model_card", "pictures", "render", "summary"]
