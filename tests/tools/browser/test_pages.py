# ruff: noqa: E501 - pages
"""The browser on pages that mean well: forms, frames, shadows, canvases, tabs, dialogs, files, slow and broken loads."""

from __future__ import annotations

import io
import re

import pytest

from .conftest import SITE, Browsing, ref

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

FORM = """<title>Form</title><form onsubmit="event.preventDefault(); document.querySelector('#o').textContent =
JSON.stringify(Object.fromEntries(new FormData(this)))">
<label>Name <input name="name" value="old"></label><label for="p">Secret</label><input id="p" name="secret" type="password">
<textarea name="words" aria-label="Words"></textarea><input name="n" type="number" title="Number" min="1" max="9">
<input type="date" name="day" aria-label="Day"><input type="color" name="colour" aria-label="Colour">
<input type="range" name="loud" aria-label="Loud" min="0" max="10" value="1">
<label><input type="checkbox" name="yes" value="1">Yes</label>
<label><input type="radio" name="r" value="a">A</label><label><input type="radio" name="r" value="b">B</label>
<select name="s" aria-label="One"><option>first</option><option disabled>second</option><option value="3">third</option></select>
<select name="m" multiple aria-label="Many"><option>x</option><option>y</option></select>
<input aria-label="Locked" readonly value="fixed"><button disabled>Off</button><button>Send</button></form><p id="o"></p>"""


async def test_a_form_of_every_kind_of_field(browse: Browsing) -> None:
    shown = await browse.show(FORM)
    assert 'textbox "Name" [e' in shown
    assert '= "old"' in shown
    await browse("type", ref=ref(shown, '"Name"'), text='Ada "the" Byron')
    await browse("type", ref=ref(shown, '"Secret"'), text="pass")
    assert '"••••"' in (await browse("snapshot"))
    await browse("type", ref=ref(shown, '"Words"'), text="one\ntwo")
    await browse("type", ref=ref(shown, '"Number"'), text="5")
    await browse("type", ref=ref(shown, '"Day"'), text="2027-02-28")
    await browse("type", ref=ref(shown, '"Colour"'), text="#A1B2C3")
    await browse("type", ref=ref(shown, '"Loud"'), text="7")
    await browse("click", ref=ref(shown, 'checkbox "Yes"'))
    assert "(checked" in (await browse("click", ref=ref(shown, 'radio "B"')))
    await browse("select", ref=ref(shown, '"One"'), values=["third"])
    await browse("select", ref=ref(shown, '"Many"'), values=["x", "y"])
    sent = await browse("click", ref=ref(shown, 'button "Send"'))
    for part in (
        'Ada \\\\\\"the\\\\\\" Byron',
        "pass",
        "2027-02-28",
        "#a1b2c3",
        '\\"loud\\":\\"7\\"',
        '\\"r\\":\\"b\\"',
    ):
        assert part in sent, part


async def test_mistakes_say_what_would_be_right(browse: Browsing) -> None:
    shown = await browse.show(FORM)
    assert "write 2026-03-31" in await browse.fail("type", ref=ref(shown, '"Day"'), text="28 February")
    assert "it has: [" in await browse.fail("select", ref=ref(shown, '"One"'), values=["fourth"])
    assert "is disabled" in await browse.fail("select", ref=ref(shown, '"One"'), values=["second"])
    assert "one option only" in await browse.fail("select", ref=ref(shown, '"One"'), values=["first", "third"])
    assert "read-only" in await browse.fail("type", ref=ref(shown, '"Locked"'), text="x")
    assert "it is disabled" in await browse.fail("click", ref=ref(shown, '"Off"'))
    assert "action select" in await browse.fail("click", ref=ref(shown, '"One"'))
    assert "there is no key 'Entr'" in await browse.fail("press", key="Entr")
    assert "there is no e9999" in await browse.fail("click", ref="e9999")
    assert "not on the screen" in await browse.fail("click", x=5000, y=10)


async def test_a_reference_stays_with_its_element_and_dies_with_it(browse: Browsing) -> None:
    shown = await browse.show(
        """<button id="a" onclick="this.textContent = 'Renamed'; document.body.prepend(Object.assign(
        document.createElement('button'), {textContent: 'Newcomer'}))">Original</button><button
        onclick="document.querySelector('#a').remove()">Remove</button>"""
    )
    first = ref(shown, "Original")
    await browse("click", ref=first)
    again = await browse("snapshot")
    assert ref(again, "Renamed") == first
    assert ref(again, "Newcomer") != first
    await browse("click", ref=ref(again, "Remove"))
    assert f"{first} is not on the page any more: take a new snapshot" in await browse.fail("click", ref=first)
    await browse.show("<button>Other</button>", "other")
    assert "not on the page any more" in await browse.fail("click", ref=ref(again, "Newcomer"))


async def test_only_what_changed_is_told_and_the_facts_for_collapsing(browse: Browsing) -> None:
    rows = "".join(f"<p>line {n}</p>" for n in range(30))
    shown = await browse.show(
        f"<button onclick=\"document.querySelector('#o').textContent = 'now'\">Go</button>{rows}<p id=o>then"
    )
    number = browse.last.data["snapshot"]["number"]
    text = await browse("click", ref=ref(shown, "Go"))
    assert '- paragraph "then"' in text
    assert '+ paragraph "now"' in text
    assert "line 7" not in text
    assert browse.last.data["snapshot"] == {
        "number": number + 1, "whole": False, "supersedes": 0, "at": text.index("Snapshot "),
    }  # fmt: skip
    await browse("snapshot")
    assert browse.last.data["snapshot"]["supersedes"] == number + 1


async def test_frames_in_frames_and_what_covers_them(browse: Browsing) -> None:
    inner = "<button onclick=\\'this.textContent=1+1\\'>deep</button>"
    await browse.world.write_file("pages/inner.html", inner.replace("\\'", "'").encode())
    await browse.world.write_file("pages/middle.html", f"<p>middle</p><iframe src='{SITE}/inner'></iframe>".encode())
    shown = await browse.show(
        f"""<div style="height:1500px">tall</div><iframe id=f title="outer" width=500 height=300
        src="{SITE.replace("127.0.0.1", "localhost")}/middle"></iframe><iframe sandbox="allow-scripts" title="boxed"
        srcdoc="<button>in the box</button>"></iframe>"""
    )
    assert 'paragraph "middle"' in shown
    assert "in the box" in shown
    deep = ref(shown, "deep")
    assert 'button "2"' in await browse("click", ref=deep)
    await browse(
        "evaluate",
        script="""document.body.insertAdjacentHTML('beforeend', '<div id=veil role=alert '
        + 'aria-label="Big veil" style="position:fixed;inset:0;background:#0008"></div>'); 1""",
    )
    assert "Big veil" in await browse.fail("click", ref=deep)


async def test_shadow_trees_and_slots(browse: Browsing) -> None:
    shown = await browse.show(
        """<my-box><span>slotted words</span></my-box><script>
        customElements.define('my-inner', class extends HTMLElement { connectedCallback() {
          this.attachShadow({mode: 'open'}).innerHTML = '<button>inside</button>';
          this.shadowRoot.firstChild.onclick = (e) => { e.target.textContent = 'was clicked'; } } });
        customElements.define('my-box', class extends HTMLElement { connectedCallback() {
          this.attachShadow({mode: 'open'}).innerHTML = '<h2>Box</h2><slot></slot><my-inner></my-inner>'; } });</script>"""
    )
    assert shown.index('"Box"') < shown.index('"slotted words"') < shown.index('"inside"')
    assert "was clicked" in await browse("click", ref=ref(shown, "inside"))


async def test_a_canvas_by_coordinates_and_a_picture_with_marks(browse: Browsing) -> None:
    from PIL import Image

    await browse.show(
        """<canvas width=200 height=150 style="position:absolute;left:50px;top:40px;background:#0f0"></canvas>
        <button style="position:absolute;left:400px;top:40px">Marked</button><p id=o></p><script>
        document.querySelector('canvas').onclick = (e) => { document.querySelector('#o').textContent =
        [e.offsetX, e.offsetY, e.isTrusted].join(); };</script>"""
    )
    assert '"100,60,true"' in await browse("click", x=150, y=100)
    text = await browse("screenshot")
    assert "1024 x 768" in text
    (picture,) = browse.last.images
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    assert image.size == (1024, 768)
    red, green, blue = image.getpixel((150, 100))  # type: ignore[misc]
    assert (green > 200, red < 60, blue < 60) == (True, True, True)
    assert len(picture.data) < 200_000
    left = await browse("evaluate", script="document.documentElement.outerHTML.includes('popover')")
    assert left.startswith("false")
    await browse.show("<div style='height:9000px;background:linear-gradient(red,blue)'>long</div>")
    await browse("screenshot", full_page=True)
    whole = Image.open(io.BytesIO(browse.last.images[0].data))
    assert max(whole.size) <= 1568


async def test_new_tabs_pop_ups_and_closing_themselves(browse: Browsing) -> None:
    await browse.show("<title>Second</title><button onclick='window.close()'>Close me</button>", "second")
    shown = await browse.show(
        f"""<title>First</title><a target="_blank" href="{SITE}/second">open</a>
        <button onclick="window.open('{SITE}/second', 'pop', 'width=300,height=300')">pop</button>"""
    )
    text = await browse("click", ref=ref(shown, 'link "open"'))
    assert "which is now in front" in text
    assert '"Second"' in text
    tabs = await browse("tabs")
    first, second = re.findall(r"Tab (\d+)", tabs)[-2:]
    await browse("switch_tab", tab=int(first))
    text = await browse("click", ref=ref(shown, 'button "pop"'))
    third = re.findall(r"Tab (\d+), in front", text)[-1]
    text = await browse("click", ref=ref(text, "Close me"))
    assert f"tab {third} closed itself" in text
    await browse("close_tab", tab=int(second))
    assert "there is no tab 77; there are: " in await browse.fail("switch_tab", tab=77)
    opened = await browse("open_tab", url=f"{SITE}/second")
    assert '"Second"' in opened
    await browse("close_tab")


async def test_dialogs_hold_up_nothing_but_the_page(browse: Browsing) -> None:
    shown = await browse.show(
        """<button onclick="o.textContent = prompt('Who?', 'nobody') + confirm('Sure?')">Ask</button><p id=o>-</p>"""
    )
    ask = ref(shown, "Ask")
    text = await browse("click", ref=ask)
    assert "A dialog (prompt) is open" in text
    assert '"Who?", its field holds "nobody"' in text
    assert "answer it first with the action dialog" in await browse.fail("click", ref=ask)
    assert "answer it first" in await browse.fail("snapshot")
    text = await browse("dialog", accept=True, text="Ada")
    assert '"Sure?"' in text
    assert '"Adafalse"' in await browse("dialog", accept=False)
    assert "no dialog is open" in await browse.fail("dialog", accept=True)


async def test_uploads_and_downloads(browse: Browsing) -> None:
    await browse.world.write_file("mine.txt", b"my file")
    await browse.world.write_file(".hidden/key.txt", b"secret")
    shown = await browse.show(
        f"""<input type=file aria-label="File" onchange="this.files[0].text().then((t) => o.textContent = t)">
        <button onclick="h.click()">Custom</button><input type=file hidden id=h onchange="o.textContent = h.files[0].name">
        <p id=o>none</p><a href="{SITE}/file?name=../../etc/na%20me.csv">get</a><a href="{SITE}/file">table</a>"""
    )
    assert '"my file"' in await browse("upload", ref=ref(shown, 'file "File"'), paths=["mine.txt"])
    assert '"mine.txt"' in await browse("upload", ref=ref(shown, "Custom"), paths=["mine.txt"])
    assert "it asks for a file: use the action upload" in await browse("click", ref=ref(shown, "Custom"))
    for path, why in [("absent.txt", "no such file"), ("/etc/passwd", "only files of the workdir"),
                      (".hidden/key.txt", "no hidden ones"), ("../x", "only files of the workdir")]:  # fmt: skip
        assert why in await browse.fail("upload", ref=ref(shown, 'file "File"'), paths=[path])
    text = await browse("click", ref=ref(shown, 'link "table"'))
    workdir = browse.world.workdir
    assert f"downloaded {workdir}/downloads/table.csv (8 bytes; it begins: 'a;b\\n1;2\\n')" in text
    assert await browse.world.read_file("downloads/table.csv") == b"a;b\n1;2\n"
    assert "table-2.csv" in await browse("click", ref=ref(shown, 'link "table"'))
    text = await browse("click", ref=ref(shown, 'link "get"'))
    assert f"downloaded {workdir}/downloads/" in text
    assert "is a file: it is downloaded" in await browse("navigate", url=f"{SITE}/file?name=again.csv")


async def test_dragging_with_and_without_html5(browse: Browsing) -> None:
    shown = await browse.show(
        """<ul><li draggable=true ondragstart="event.dataTransfer.setData('text/plain', 'apple')">Apple</li></ul>
        <div role=region aria-label="Basket" ondragover="event.preventDefault()" style="width:200px;height:80px;background:#eee"
        ondrop="event.preventDefault(); this.textContent = 'holds ' + event.dataTransfer.getData('text/plain')"></div>
        <div id=k style="position:absolute;left:300px;top:300px;width:30px;height:30px;background:red;cursor:grab">knob</div>
        <script>let on = false; k.onmousedown = () => on = true; onmouseup = () => on = false;
        onmousemove = (e) => { if (on) k.style.left = (e.clientX - 15) + 'px'; };</script>"""
    )
    text = await browse("drag", ref=ref(shown, "Apple"), to=ref(shown, "Basket"))
    assert "holds apple" in text
    await browse("drag", x=315, y=315, to_x=515, to_y=315)
    assert '"500px"' in await browse("evaluate", script="k.style.left")


async def test_an_editor_and_keys(browse: Browsing) -> None:
    shown = await browse.show("<div contenteditable aria-label=Editor>old text</div><input aria-label=Field><p id=o></p>"
        "<script>onkeydown = (e) => o.textContent += e.key + ' '</script>")  # fmt: skip
    editor = ref(shown, 'textbox "Editor"')
    await browse("type", ref=editor, text="new ")
    await browse("press", key="Control+b")
    await browse("type", text="bold")
    assert "<b>bold</b>" in await browse("evaluate", script="document.querySelector('[contenteditable]').innerHTML")
    text = await browse("press", ref=ref(shown, "Field"), key="x Shift+Tab Escape")
    assert "Escape" in text


async def test_scrolling_lists_that_grow_and_what_is_off_the_screen(browse: Browsing) -> None:
    shown = await browse.show(
        """<div id=l></div><button id=end>End</button><script>let n = 0; const more = () => { for (let i = 0; i < 20; i++) {
        l.insertAdjacentHTML('beforeend', `<button style="display:block;height:80px">Item ${++n}</button>`); } }; more();
        new IntersectionObserver((e) => { if (e[0].isIntersecting && n < 100) more(); }).observe(end);</script>
        <div style="height:100px;overflow:auto" aria-label="Inner" role=region><div style="height:900px">tall</div><button>Deep down</button></div>"""
    )
    assert re.search(r'button "Item 20" \[e\d+\] ↓', shown)
    text = await browse("scroll", direction="down")
    assert "scrolled the page down" in text
    for _ in range(4):
        await browse("press", key="End")
    assert "Item 60" in await browse("snapshot")
    inner = await browse.ref('region "Inner"')
    text = await browse("scroll", direction="down", ref=inner)
    assert f"scrolled what holds {inner} down" in text
    assert "cannot be scrolled further left" in await browse("scroll", direction="left")


async def test_slow_endless_broken_and_reset_loads(browse: Browsing) -> None:
    assert "late but there" in await browse("navigate", url=f"{SITE}/slow?s=1.5")
    text = await browse("navigate", url=f"{SITE}/never", timeout_s=3)
    assert "the beginning" in text
    assert "HTTP 500" in await browse("navigate", url=f"{SITE}/broken")
    assert "It broke" in browse.last.text
    assert "second try" in await browse("navigate", url=f"{SITE}/reset")
    assert "nothing listens there" in await browse.fail("navigate", url="http://127.0.0.1:8999")
    assert "cannot be loaded" in await browse.fail("navigate", url="http://example.test/")
    assert "did not finish loading" in await browse("navigate", url=f"{SITE}/slow?s=8", timeout_s=2)


async def test_waiting_for_text_elements_and_their_end(browse: Browsing) -> None:
    shown = await browse.show(
        """<button disabled>Late</button><p id=o>loading</p><script>setTimeout(() => { o.textContent = 'ready';
        document.querySelector('button').disabled = false; }, 900)</script>"""
    )
    assert "'READY' is there" in await browse("wait", text="READY")
    assert f"{ref(shown, 'Late')} is there" in await browse("wait", ref=ref(shown, "Late"))
    assert "'loading' is gone" in await browse("wait", text="loading", gone=True)
    assert "waited for 'never'" in await browse.fail("wait", text="never", timeout_s=1)
    await browse("wait", seconds=0.2)
    await browse("wait")


async def test_history_scripts_console_and_network(browse: Browsing) -> None:
    await browse.show("<title>One</title>one", "one")
    await browse.show("<title>Two</title><script>console.log('hello', 42); fetch('/absent')</script>two", "two")
    assert '"One"' in await browse("back")
    assert '"Two"' in await browse("forward")
    assert "no page to go forward to" in await browse.fail("forward")
    await browse("reload")
    assert await browse("evaluate", script="const a = await Promise.resolve([1, {b: 2}]); a") is not None
    assert '"b": 2' in browse.last.text
    assert "ReferenceError" in await browse.fail("evaluate", script="nothing.here")
    assert 'log: "hello 42"' in await browse("console")
    assert f"GET {SITE}/absent 404 (fetch)" in await browse("network")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"action": "click"}, "click needs ref, or x and y"),
        ({"action": "click", "ref": "e1", "x": 1, "y": 2}, "click needs ref, or x and y"),
        ({"action": "navigate"}, "navigate needs url"),
        ({"action": "navigate", "url": "file:///etc/passwd"}, "http:// and https:// addresses only"),
        ({"action": "navigate", "url": "chrome://version"}, "http:// and https:// addresses only"),
        ({"action": "navigate", "url": "view-source:http://127.0.0.1/"}, "http:// and https:// addresses only"),
        ({"action": "navigate", "url": "javascript:alert(1)"}, "http:// and https:// addresses only"),
        ({"action": "click", "ref": "the button"}, "is no reference: write it as in a snapshot"),
        ({"action": "back", "text": "x"}, "back does not take text: it takes nothing"),
        ({"action": "wait", "gone": True}, "what shall be gone"),
        ({"action": "clik"}, "wrong arguments for browser: action"),
    ],
)  # fmt: skip
async def test_wrong_arguments_are_one_line(browse: Browsing, arguments: dict[str, object], complaint: str) -> None:
    from trellis.tools.tool import ToolError

    with pytest.raises(ToolError) as caught:
        await browse.tool(browse.world, **arguments)
    assert complaint in str(caught.value)
