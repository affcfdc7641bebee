"""Named corpora."""

from slm.corpus.sources import CorpusConfig, SourceConfig

# The paper's mixture (arXiv 2412.16423): Common Corpus from Japanese Wikipedia and OSCAR-2301, medical web text and
# synthesised textbooks; about 9B tokens, read 5.5 times for its 50B. Its weights are not published: textbooks and
# medical text are small, so they weigh more here. --config.corpus.sources.NAME.files replaces the paths.
NCVC = CorpusConfig(curated=True, sources=(
    SourceConfig("wikipedia", "data/wikipedia/jawiki-*-pages-articles*.xml*", "encyclopedia", "CC-BY-SA-4.0"),
    SourceConfig("oscar", "data/oscar/ja_meta/*.jsonl.zst", "web"),
    SourceConfig("web_medical", "data/web_medical/*.jsonl*", "web", weight=4.0),
    SourceConfig("textbooks", "runs/textbooks-endpoint/documents.jsonl", "textbook", weight=2.0)))
