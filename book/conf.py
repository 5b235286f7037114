"""Sphinx's settings. Nothing runs, nothing is fetched: the notebooks were executed when they were committed."""

import os

import labelkit

project = "labelkit"
author = "the labelkit authors"
copyright = "the labelkit authors, MIT"
release = version = labelkit.__version__
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_codeautolink",
    "sphinxext.opengraph",
    "book.docstrings",
    "book.mathml",
]

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # otherwise a table among the outputs shows as lines of bars
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_default_options = {"members": True, "special-members": "__call__", "member-order": "bysource"}
autodoc_type_aliases = {"Similarity": "Similarity"}
add_module_names = False
maximum_signature_line_length = 88
codeautolink_concat_default = True  # the imports of a chapter's first cell hold in all of them

html_theme = "sphinx_book_theme"
html_title = "labelkit"
html_static_path = ["static"]
html_favicon = "static/mark.svg"
html_css_files = ["book.css"]
html_js_files = [("zoom.js", {"defer": "defer"})]
html_sourcelink_suffix = ""
html_show_sphinx = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is, until the button says otherwise
html_theme_options = {
    "logo": {"text": "labelkit"},
    "show_toc_level": 2,
    "use_fullscreen_button": False,
    "search_bar_text": "Search the book",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"

# Where the book is published: a preview of a shared link needs whole addresses. The workflow sets it.
ogp_site_url = os.environ.get("BOOK_URL", "")
ogp_site_name = "labelkit: label assignment in object detection"
ogp_use_first_image = True
ogp_image = "_images/sky.png"
ogp_social_cards = {"enable": False}
