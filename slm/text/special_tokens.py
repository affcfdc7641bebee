"""Special tokens, the chat template, and the file names of a tokenizer's folder."""

MODEL_FILE, SETTINGS_FILE, DICTIONARY_FILE = "tokenizer.model", "tokenizer.json", "user.dic"
HUGGING_FACE_FILE = "hugging_face_tokenizer.json"  # of a tokenizer that was imported with its model

# Reserved in every vocabulary: a document's end; roles and the end of a turn; twelve for later use.
END_OF_DOCUMENT = "</s>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END_OF_TURN = "<|end|>"
CONTROL_SYMBOLS = (*ROLES, END_OF_TURN, *(f"<|reserved_{i}|>" for i in range(12)))
WHITE_SPACE_SYMBOLS = ("\n", "\t")

# The template of text/chat.py for runtimes that read Jinja (Hugging Face, llama.cpp).
CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE = ("</s>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
                 "{% if add_generation_prompt %}<|assistant|>{% endif %}")
