"""The bundled sample text, notes and tasks, for the demo, the tests and the notebooks."""

from slm.sample.corpus import documents, files, generate, prose, terms
from slm.sample.items import ExamItem, exam_item

__all__ = ["ExamItem", "documents", "exam_item", "files", "generate", "prose", "terms"]
