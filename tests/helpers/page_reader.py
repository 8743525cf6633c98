"""A page of HTML taken apart."""
import html.parser


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, and the text between them (scripts and styles apart)."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.code, self.inside = [], [], {"script": [], "style": []}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in self.code else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        (self.code[self.inside] if self.inside else self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **wanted):
        return [attributes for name, attributes in self.tags
                if name == tag and all(attributes.get(k.rstrip("_")) == v for k, v in wanted.items())]
