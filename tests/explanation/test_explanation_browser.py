"""The page in a real browser: no errors, clicks and keys do what they should, light and dark, wide and narrow."""
import pytest
from explanations import HOSTILE, digit, renamed

FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]"


@pytest.fixture(scope="module")
def written():
    return digit("three").to_html()


def pressed(page):
    return [button.text.splitlines()[0] for button in page.all('.class[aria-pressed="true"]')]


def test_opens_without_a_word_in_the_console(page, written):
    page.open(written)
    assert page.console() == []
    assert page.driver.title == "three – what tf_efficientnet_lite0 saw"
    assert page.run("return [...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_console_tells_of_what_is_foreign(page, written):
    page.open(written.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png"><script>window.hacked = 1</script>'))
    said = " ".join(page.console())
    assert "img-src" in said and "script-src" in said and page.run("return window.hacked") is None


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_run_nothing(page, name):
    page.open(renamed(digit("three"), name, name).to_html(), width=390)
    assert page.console() == [] and page.run("return window.hacked") is None
    assert page.too_wide() == 0


def test_click_on_a_class_changes_the_map(page, written):
    page.open(written)
    (before,) = page.shown(".heat")
    source, said = before.get_attribute("src"), page.all("#says")[0].text
    assert pressed(page) == ["three"]
    page.all(".class")[2].click()
    (after,) = page.shown(".heat")
    assert after.get_attribute("src") != source
    assert after.get_attribute("alt").startswith("Class activation map of four")
    assert pressed(page) == ["four"] and page.all("#says")[0].text != said
    assert page.all("#says")[0].text.startswith("four, ")
    assert page.all("#says")[0].get_attribute("aria-live") == "polite"


def test_keys_change_the_map(page, written):
    page.open(written)
    page.run("arguments[0].focus()", page.all(".class")[0])
    page.press("ARROW_DOWN")
    assert pressed(page) == ["zero"] == [page.focused().text.splitlines()[0]]
    page.press("ARROW_UP", "ARROW_UP")
    assert pressed(page) == ["eight"], "round the end"
    page.press("TAB")
    page.run("arguments[0].focus()", page.all(".class")[3])
    assert pressed(page) == ["eight"], "the focus alone chooses nothing"
    page.press("SPACE")
    assert pressed(page) == ["six"] and len(page.shown(".heat")) == 1


def test_opacity_of_the_map(page, written):
    page.open(written)
    page.run("arguments[0].focus()", page.all("#strength")[0])
    before = page.shown(".heat")[0].value_of_css_property("opacity")
    page.press("HOME")
    assert before == "0.85" and page.all(".heat")[0].value_of_css_property("opacity") == "0"
    assert page.all(".photo")[0].value_of_css_property("filter") == "grayscale(0)", "the photo in its colours"


def opened(page):
    """The name in the one panel that shows, and whether its button says so; None where no panel shows."""
    panels, buttons = page.shown(".panel"), page.all('.block[aria-expanded="true"]')
    assert len(panels) == len(buttons) <= 1
    if not panels:
        return None
    assert buttons[0].get_attribute("aria-controls") == panels[0].get_attribute("id")
    return panels[0].find_element("css selector", "h3 code").text


def test_click_on_a_block_opens_its_panel(page, written):
    page.open(written)
    assert opened(page) is None
    page.all(".block")[2].click()
    assert opened(page) == "blocks.1.0"
    assert "64 × 64" not in page.shown(".panel")[0].text and "Strongest feature maps" in page.shown(".panel")[0].text
    assert all(image.size["width"] > 40 for image in page.shown(".maps img"))
    page.all(".block")[3].click()
    assert opened(page) == "blocks.1.1"
    page.all(".block")[3].click()
    assert opened(page) is None


@pytest.mark.parametrize("key", ["ENTER", "SPACE"])
def test_key_on_a_block_opens_its_panel(page, written, key):
    page.open(written)
    page.run("arguments[0].focus()", page.all(".block")[0])
    page.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert opened(page) is None
    page.press(key)
    assert opened(page) == "blocks.1.0"
    page.press("ARROW_RIGHT", key)
    assert opened(page) == "blocks.1.1"
    page.press("ESCAPE")
    assert opened(page) is None and page.focused() == page.all(".block")[3], "the focus stays where it was"


def test_tab_reaches_everything_in_order(page, written):
    page.open(written)
    expected = page.shown(FOCUSABLE)
    reached = []
    for _ in expected:
        page.press("TAB")
        reached.append(page.focused())
        width = page.focused().value_of_css_property("outline-width")
        assert width == "3px", "where the focus is can be seen"
    assert reached == expected and len(expected) == 5 + 1 + 20


def test_everything_has_a_name(page, written):
    page.open(written)
    for image in page.all("img"):
        assert image.get_attribute("alt")
    names = [element.accessible_name for element in page.shown(FOCUSABLE)]
    assert all(names) and len(set(names)) == len(names)
    assert "2.0 inverted residual, puts out 8 × 8 × 40" in names and "Opacity of the map" in names
    assert page.run("return document.documentElement.lang") == "en"
    heads = [int(element.tag_name[1]) for element in page.shown("h1, h2, h3, h4")]
    assert heads == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(page, written, width, scheme):
    page.open(written, width=width, scheme=scheme)
    page.run("arguments[0].click()", page.all(".block")[4])
    page.run("document.getAnimations().forEach((animation) => animation.finish())")
    assert page.too_wide() == 0
    assert page.low_contrast() == []
    smallest = min(min(button.size.values()) for button in page.all("button"))
    assert smallest >= 24, "WCAG's least size of a target, in CSS pixels"


def test_checks_of_width_and_contrast_can_fail(page, written):
    page.open(written)
    page.run("document.querySelector('.says').style.color = '#999'")
    ((text, ratio),) = page.low_contrast()
    assert text.startswith("three, ") and 2 < ratio < 3
    page.run("document.querySelector('main').style.minWidth = '1400px'")
    assert page.too_wide() > 100


def test_dark_is_dark(page, written):
    grounds = [page.open(written, scheme=scheme).run("return getComputedStyle(document.body).backgroundColor")
               for scheme in ("light", "dark")]
    light, dark = (sum(map(int, ground[4:-1].split(","))) for ground in grounds)
    assert light > 700 and dark < 100


@pytest.mark.parametrize("motion, moves", [("reduce", False), ("no-preference", True)])
def test_moves_only_where_it_may(page, written, motion, moves):
    page.open(written, motion=motion)
    assert (page.all(".class")[0].value_of_css_property("transition-duration") != "0s") == moves
