"""Conformance reports: one model of what runs of features showed, written as HTML, Markdown, JUnit XML and JSON."""
