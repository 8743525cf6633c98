"""The page in a real browser: no errors, clicks and keys do what they should, light and dark, wide and narrow."""
import re

import numpy as np
import pytest
from explanations import HOSTILE, digit, renamed

from npefficient.display import wording

FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]"


@pytest.fixture(scope="module")
def written():
    return digit("three").to_html()


@pytest.fixture(scope="module")
def labels():
    """The five most probable classes, as the page lists them."""
    return [one.label for one in digit("three").classes]


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


def test_click_on_a_class_changes_the_map(page, written, labels):
    page.open(written)
    third = labels[2]
    before, falls = (image.get_attribute("src") for image in page.shown(".heat"))
    said = page.all("#says")[0].text
    assert pressed(page) == ["three"]
    page.all(".class")[2].click()
    after = page.shown(".heat")
    assert not {before, falls} & {image.get_attribute("src") for image in after}
    assert after[0].get_attribute("alt").startswith(f"Class activation map of {third}")
    assert after[1].get_attribute("alt").startswith(f"Occlusion for {third}")
    assert pressed(page) == [third] and page.all("#says")[0].text != said
    assert page.all("#says")[0].text.startswith(f"{third}, ")
    assert page.all("#says")[0].get_attribute("aria-live") == "polite"


def test_keys_change_the_map(page, written, labels):
    page.open(written)
    page.run("arguments[0].focus()", page.all(".class")[0])
    page.press("ARROW_DOWN")
    assert pressed(page) == [labels[1]] == [page.focused().text.splitlines()[0]]
    page.press("ARROW_UP", "ARROW_UP")
    assert pressed(page) == [labels[4]], "round the end"
    page.press("TAB")
    page.run("arguments[0].focus()", page.all(".class")[3])
    assert pressed(page) == [labels[4]], "the focus alone chooses nothing"
    page.press("SPACE")
    assert pressed(page) == [labels[3]] and len(page.shown(".heat")) == 2


def minus(page, name):
    """Choose a class to subtract, as the keys do."""
    (option,) = [option for option in page.all("#minus option") if option.text == name]
    option.click()


def test_one_class_minus_another(page, written, labels):
    page.open(written)
    explanation = digit("three")
    (disabled,) = [option.text for option in page.all("#minus option") if not option.is_enabled()]
    assert disabled == "three", "no class minus itself"
    _, second, third, *_ = labels
    minus(page, second)
    view = explanation.classes[0].minus(explanation.classes[1])
    assert page.all("#says")[0].text.splitlines() == [
        wording.says_difference(view),
        wording.compares(view.occlusion, explanation.agreement(view), "the difference")]
    ends = [text.text.splitlines()[0] for text in page.shown(".legend span")]
    largest = [np.abs(values).max() for values in (view.map, view.occlusion)]
    assert ends == [wording.signed(sign * value, 1) for value in largest for sign in (-1, 1)]
    page.all(".class")[2].click()
    assert page.all("#says")[0].text.startswith(f"{third} minus {second}. ")
    page.all(".class")[1].click()
    assert page.all("#says")[0].text.startswith(f"{second}, "), "nothing is left to subtract"
    assert page.run("return document.getElementById('minus').value") == ""


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
    assert opened(page) == "conv_stem", "the first is open from the start"
    page.all(".block")[2].click()
    assert opened(page) == "blocks.1.0"
    assert "64 × 64" not in page.shown(".panel")[0].text and "strongest feature maps" in page.shown(".panel")[0].text
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
    assert opened(page) == "conv_stem"
    page.press(key)
    assert opened(page) == "blocks.1.0"
    page.press("ARROW_RIGHT", key)
    assert opened(page) == "blocks.1.1"
    page.press("ESCAPE")
    assert opened(page) is None and page.focused() == page.all(".block")[3], "the focus stays where it was"


def computed(page):
    """What the open panel computes: the numbers, the weights and the products of all cells, and the sum in words."""
    texts = page.run("""const panel = document.querySelector(".panel:not([hidden])");
return ["value", "weight", "product"].map((name) =>
  [...panel.querySelectorAll(`.cell > .${name}`)].map((part) => part.textContent));""")
    return *(np.array([float(text.replace("−", "-")) for text in part]) for part in texts), page.shown(".sum")[0].text


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-\d+)?", text.replace("−", "-"))]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("button", [0, 1, 3, 4], ids=["stem", "float", "3x3", "5x5"])
def test_numbers_of_a_pixel_give_the_networks_output(page, precision, button):
    page.open(digit("three", precision).to_html())
    if button:
        page.all(".block")[button].click()
    one = digit("three", precision).sums[button]
    values, weights, products, said = computed(page)
    row, column, total, *rest = numbers(said)
    assert len(values) == len(weights) == len(products) == one.kernel**2 * one.x.shape[2]
    off = [0 if one.scale != 1 else 0.0501 * (np.abs(part) >= 9.99) + 0.00501 for part in (values, weights, products)]
    assert abs(products.sum() - total) <= np.sum(off[2]) + 0.001
    assert (abs(values * weights - products) <= off[2] + off[0] * abs(weights) + (abs(values) + 1) * off[1]).all()
    order = one.weight.transpose(2, 0, 1).ravel()  # a grid for each channel
    assert (abs(weights - order) <= off[1]).all()
    assert abs(rest[-1] - one.out[int(row) - 1, int(column) - 1]) < 0.00051


def test_keys_and_the_pointer_choose_a_pixel(page, written):
    from selenium.webdriver import ActionChains

    page.open(written)
    page.all(".block")[3].click()  # blocks.1.1, 16 x 16
    (picker,) = page.shown(".picker")
    out = digit("three").sums[3].out
    page.run("arguments[0].focus()", picker)
    for _ in range(17):
        page.press("ARROW_UP", "ARROW_LEFT")
    assert numbers(page.shown(".sum")[0].text)[:2] == [1, 1], "and no further"
    assert len(page.shown(".cell.padding")) == 5, "the window's first row and column are padding"
    page.press("ARROW_DOWN", "ARROW_RIGHT", "ARROW_RIGHT")
    row, column, *_, result = numbers(page.shown(".sum")[0].text)
    assert (row, column) == (2, 3) and abs(result - out[1, 2]) < 0.00051
    mark = page.run("return ['x', 'y', 'width'].map((name) => arguments[0].getAttribute(name))",
                    page.shown(".window")[0])
    assert [float(value) for value in mark] == [1, 0, 3], "the window in the input"
    side = picker.size["width"]
    ActionChains(page.driver).move_to_element_with_offset(picker, round(side * (13.5 / 16 - 0.5)), 0).perform()
    row, column, *_, result = numbers(page.shown(".sum")[0].text)
    assert column == 14 and row in (8, 9) and abs(result - out[int(row) - 1, 13]) < 0.00051


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_no_label_is_cut_off(page, width, precision):
    page.open(digit("three", precision).to_html(), width=width)
    for button in (0, 4):  # 27 numbers, and 25
        if button:
            page.run("arguments[0].click()", page.all(".block")[button])
        cut = page.run("return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility() && "
                       "e.scrollWidth > e.clientWidth).map((e) => e.textContent)",
                       ".cell, .maps figcaption, .chip, .legend p, .kernel, .flow li, .sum, .end, dd")
        assert cut == []


@pytest.mark.parametrize("width, folded", [(390, True), (1280, False)])
def test_long_parts_are_folded_on_a_phone(page, written, width, folded):
    page.open(written, width=width)
    assert [part.get_attribute("open") is None for part in page.all("details")] == [folded, folded]
    assert not folded or page.run("return document.documentElement.scrollHeight") < 4500
    page.all("summary")[1].click()
    assert bool(page.shown(".times tbody tr")) == folded
    assert page.too_wide() == 0


def test_without_scripts_the_page_shows_the_first_of_everything(page, written):
    script = re.search(r"<script>.*?</script>", written, re.DOTALL)[0]
    page.open(written.replace(script, ""))
    assert len(page.shown(".heat")) == 2 and opened(page) == "conv_stem"
    assert page.shown("#says") and not page.shown(".scripted") and len(page.shown("summary")) == 2
    page.all("summary")[1].click()
    assert len(page.shown(".times tbody tr")) == len(digit("three").times.steps)


def test_tab_reaches_everything_in_order(page, written):
    page.open(written)
    expected = [element for element in page.shown(FOCUSABLE) if element.tag_name != "option"]
    reached = []
    for _ in expected:
        page.press("TAB")
        reached.append(page.focused())
        width = page.focused().value_of_css_property("outline-width")
        assert width == "3px", "where the focus is can be seen"
    assert reached == expected and len(expected) == 5 + 2 + 1 + 20 + 1 + 1


def test_everything_has_a_name(page, written):
    page.open(written)
    for image in page.all("img"):
        assert image.get_attribute("alt")
    names = [element.accessible_name for element in page.shown(FOCUSABLE)]
    assert all(names) and len(set(names)) == len(names)
    assert "2.0 inverted residual, puts out 8 × 8 × 40" in names and "Opacity of the maps" in names
    assert "Output of conv_stem: the arrow keys choose a pixel" in names
    assert page.run("return document.documentElement.lang") == "en"
    heads = [int(element.tag_name[1]) for element in page.shown("h1, h2, h3, h4")]
    assert heads == [1, 2, 3, 3, 2, 2, 3, 4, 4, 2]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(page, written, width, scheme):
    page.open(written, width=width, scheme=scheme)
    page.run("arguments[0].click()", page.all(".block")[4])
    page.run("document.getAnimations().forEach((animation) => animation.finish())")
    assert page.too_wide() == 0
    assert page.low_contrast() == []
    smallest = min(min(button.size.values()) for button in page.all("button, select, summary"))
    assert smallest >= 24, "WCAG's least size of a target, in CSS pixels"


def test_checks_of_width_and_contrast_can_fail(page, written):
    page.open(written)
    page.run("document.querySelector('.says').style.color = '#999'")
    found = page.low_contrast()
    assert [text[:11] for text, _ in found] == ["three, 92.8", "Without one"]
    assert all(2 < ratio < 3 for _, ratio in found)
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
