"""The tasks: what the agent is told, what must be in the journal or the answer afterwards, and a walk that does it.

Answers and expected deeds stay on the host. The walk is what a scripted agent does (see walk.py): it proves that a task
can be done with the tool, and is no part of scoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done on the site: the journal must say just this of it, `once`, or at the `last` time of several."""

    name: str
    body: Mapping[str, Any] = field(default_factory=dict)
    rule: Literal["once", "last"] = "once"


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the browser. `target` finds the element on the page: words of its line, after `>>` words of a later
    line ("row "Ada" >> button "Delete""); `to` likewise for a drag."""

    action: str
    target: str = ""
    to: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def step(action: str, target: str = "", to: str = "", **arguments: Any) -> Step:
    return Step(action, target, to, arguments)


def click(target: str) -> Step:
    return Step("click", target)


def write(target: str, text: str) -> Step:
    return step("type", target, text=text)


def until(text: str) -> Step:
    return step("wait", text=text)


@dataclass(frozen=True, slots=True)
class Exercise:
    id: str
    told: str
    walk: tuple[Step, ...]
    deeds: tuple[Deed, ...] = ()
    """All that must have been done; a deed that is not here, of a name that is, counts against the agent."""
    never: tuple[str, ...] = ()
    """Names of deeds that must not occur."""
    answer: str = ""
    visited: tuple[str, ...] = ()
    """Pages, as path or path?query, without which the answer cannot be known."""


ALL = (
    Exercise(
        "login",
        "Log in as `r.okafor` with the password `tide-7-anchor` and hand in the card number that the account shows.",
        (
            write('textbox "User name"', "r.okafor"), write('textbox "Password"', "tide-7-anchor"),
            click('button "Log in"'), until("Card number"),
        ),
        deeds=(Deed("login/enter", {"user": "r.okafor", "password": "tide-7-anchor"}, "last"),),
        answer="HL-84-2217-K", visited=("login/account",),
    ),
    Exercise(
        "signup",
        "Join the club: Mara Lindt, mara@lindt.example, 34 years old, phone 0171 555 0199, living in Germany. She "
        "wants the yearly plan, no newsletter, and accepts the terms. If the form objects, correct it.",
        (
            write('textbox "Full name"', "Mara Lindt"), write('textbox "E-mail"', "mara@lindt.example"),
            write('spinbutton "Age"', "34"), write('textbox "Phone"', "0171 555 0199"),
            step("select", 'combobox "Country"', values=["Germany"]), click('radio "Yearly"'),
            click('checkbox "Send me the newsletter"'), click('checkbox "I accept the terms"'), click('button "Join"'),
            until("Germany is +49"), write('textbox "Phone"', "+49 171 555 0199"), click('button "Join"'),
            until("Welcome aboard"),
        ),
        deeds=(
            Deed("signup/join", {
                "name": "Mara Lindt", "email": "mara@lindt.example", "age": 34, "phone": "+491715550199",
                "country": "DE", "plan": "yearly", "newsletter": False, "terms": True,
            }),
        ),
    ),
    Exercise(
        "wizard",
        "Book the ferry from Saint Brine to North Skerry on 14 May 2027 for two adults and one child, without a car.",
        (
            step("select", 'combobox "From"', values=["Saint Brine"]),
            step("select", 'combobox "To"', values=["North Skerry"]), write('date "Day"', "2027-05-14"),
            click('button "Next"'), click('button "More adults"'), click('button "More children"'),
            click('button "Next"'), until("Saint Brine to North Skerry on 2027-05-14: 2 adults, 1 children"),
            click('button "Book"'), until("calm crossing"),
        ),
        deeds=(
            Deed("wizard/book", {
                "from": "Saint Brine", "to": "North Skerry", "day": "2027-05-14", "adults": 2, "children": 1,
                "car": False,
            }),
        ),
    ),
    Exercise(
        "wiki",
        "In which year was the longest bridge of the town at the mouth of the river Veld opened? Hand in the year.",
        (click('link "Rivers"'), click('link "Marrow"'), click('link "Heron Bridge"'), until("flood of 1890")),
        answer="1893", visited=("wiki/heron-bridge",),
    ),
    Exercise(
        "table",
        "Of the people in Logistics who were hired after 2015, who earns most? Hand in the name.",
        (
            step("select", 'combobox "Department"', values=["Logistics"]), click('button "Salary"'),
            click('button "Salary"'), until("70517"),
        ),
        answer="Dov Eze", visited=("table/rows",),
    ),
    Exercise(
        "calendar",
        "Book the pottery studio for 17 March 2027.",
        (
            click('button "Choose a day"'), *[click('button "Later month"')] * 4, until("March 2027"),
            click('button "17"'), click('button "Book"'), until("The studio is yours"),
        ),
        deeds=(Deed("calendar/book", {"day": "2027-03-17"}),),
    ),
    Exercise(
        "reorder",
        "Put the stops into this order and save the route: Harbour, Tower, Bakery, Mill, School.",
        (
            step("drag", 'listitem "Bakery"', 'listitem "Harbour"'),
            step("drag", 'listitem "Tower"', 'listitem "Bakery"'),
            click('button "Save the route"'), until("Route saved"),
        ),
        deeds=(Deed("reorder/save", {"order": ["Harbour", "Tower", "Bakery", "Mill", "School"]}, "last"),),
    ),
    Exercise(
        "canvas",
        "Burst the red balloon until all are burst, with at most three misses. It is drawn, so look at a screenshot.",
        (
            step("screenshot"), step("click", x=131, y=211), until("1 of 4"), step("click", x=351, y=231),
            until("2 of 4"), step("click", x=101, y=391), until("3 of 4"), step("click", x=261, y=301),
            until("All burst"),
        ),
        deeds=(Deed("canvas/won", {"good": True}),),
    ),
    Exercise(
        "checkout",
        "Pay for the tea with express delivery. Card number 4000 1234 5678 9010, valid until 08/29, check digits 737.",
        (
            click('radio "Express"'), write('textbox "Card number"', "4000 1234 5678 9010"),
            write('textbox "Valid until"', "08/29"), write('textbox "Check digits"', "737"),
            click('button "Save card"'), until("Card accepted"), click('button "Pay 14.20"'), until("on its way"),
        ),
        deeds=(
            Deed("checkout/card", {"number": "4000123456789010", "until": "08/29", "cvc": "737"}),
            Deed("checkout/pay", {"delivery": "express"}),
        ),
    ),
    Exercise(
        "shadow",
        "Turn the beeps off and night mode on, leave the radio on, set the language to Frisian, and save.",
        (
            click('switch "Beeps"'), click('switch "Night mode"'),
            step("select", 'combobox "Language"', values=["Frisian"]), click('button "Save"'), until("Saved."),
        ),
        deeds=(Deed("shadow/save", {"radio": True, "beeps": False, "night": True, "language": "Frisian"}, "last"),),
    ),
    Exercise(
        "consent",
        "Hand in the code of the week, without agreeing to analytics or advertising.",
        (
            click('button "Manage choices"'), click('checkbox "Analytics"'), click('checkbox "Advertising"'),
            click('button "Save choices"'), click('button "Show the code"'), until("Quince-41"),
        ),
        deeds=(Deed("consent/save", {"analytics": False, "advertising": False}), Deed("consent/code", {}, "last")),
        answer="Quince-41",
    ),
    Exercise(
        "upload",
        "Hand in the claim `inbox/claim-0412.txt` (a file in your working folder) under the reference R-77.",
        (
            step("upload", 'file "Your file"', paths=["inbox/claim-0412.txt"]), write('textbox "Reference"', "R-77"),
            click('button "Hand in"'), until("Received claim-0412.txt"),
        ),
        deeds=(
            Deed("upload/claim", {
                "name": "claim-0412.txt", "reference": "R-77",
                "sha256": "c0a5c712b6c20ddb349abd9d1c6318e6e50e68fcf6f370d8836784362a06ce1f",
            }),
        ),
    ),
    Exercise(
        "statement",
        "Download the statement of September 2026 and send it to the auditor.",
        (
            click('link "Statement of September 2026"'),
            step("upload", 'button "Attach a statement"', paths=["downloads/statement-2026-09.csv"]),
            click('button "Send to the auditor"'), until("Sent to the auditor."),
        ),
        deeds=(
            Deed("statement/audit", {"sha256": "08e7b5f7a4575e611f4fb598fc177405818492aae1df9e6894eac09aab47c1d9"}),
        ),
        visited=("statement/file?month=2026-09",),
    ),
    Exercise(
        "scroll",
        "What does the copper kettle of 3.8 litres cost? Hand in the price.",
        (*[step("press", key="End")] * 22, until("Copper kettle, 3.8 l")),
        answer="68.46", visited=("scroll/items?from=132",),
    ),
    Exercise(
        "keys",
        "On the old terminal, choose File, Export, PDF.",
        (
            step("press", 'application "Menu"', key="Enter"), step("press", key="ArrowDown ArrowDown Enter"),
            until("PDF"), step("press", key="ArrowDown Enter"), until("File/Export/PDF: done"),
        ),
        deeds=(Deed("keys/choose", {"item": "File/Export/PDF"}),),
    ),
    Exercise(
        "editor",
        "Write this letter, with only the word Friday in bold, and save it: Dear Ada, the meeting is on Friday at "
        "noon.",
        (
            write('textbox "Letter"', "Dear Ada, the meeting is on "), step("press", key="Control+b"),
            step("type", text="Friday"), step("press", key="Control+b"), step("type", text=" at noon."),
            click('button "Save"'), until("Saved."),
        ),
        deeds=(
            Deed("editor/save", {"text": "Dear Ada, the meeting is on Friday at noon.", "bold": ["Friday"]}, "last"),
        ),
    ),
    Exercise(
        "dialogs",
        "Rename draft.txt to final.txt and delete old.txt. Keep everything else.",
        (
            click('button "Rename draft.txt"'), step("dialog", accept=True, text="final.txt"),
            click('button "Delete old.txt"'), step("dialog", accept=True), step("snapshot"),
        ),
        deeds=(
            Deed("dialogs/rename", {"from": "draft.txt", "to": "final.txt"}),
            Deed("dialogs/delete", {"name": "old.txt"}),
        ),
    ),
    Exercise(
        "tabs",
        "Which shop sells the reading lamp for least, shipping included? Hand in the name of the shop.",
        tuple(
            part
            for shop, price in (
                ("Brightly", "34.90"), ("Lumen & Sons", "36.40"), ("Wick and Wax", "31.00"), ("Glow Depot", "40.20"),
            )
            for part in (click(f'link "{shop}"'), until(price), step("switch_tab", tab=1))
        ),
        answer="Glow Depot",
        visited=("tabs/shop?of=brightly", "tabs/shop?of=lumen", "tabs/shop?of=wick", "tabs/shop?of=glow"),
    ),
    Exercise(
        "search",
        "Hand in the telephone extension of Dr. N. Okafor of Cardiology.",
        (write('searchbox "Search"', "okafor"), until("2 found"), step("snapshot")),
        answer="4417", visited=("search/find",),
    ),
    Exercise(
        "broken",
        "When does the museum close on Thursdays? Hand in the time, for example 16:15.",
        (click('link "Opening hours"'), click('link "archive"'), click('link "O"'), until("Thursday")),
        answer="19:40", visited=("broken/archive?letter=O",),
    ),
    Exercise(
        "autocomplete",
        "Choose the Newcastle in Staffordshire as destination and continue.",
        (
            write('combobox "Destination"', "newcastle"), until("Staffordshire"),
            click('option "Newcastle-under-Lyme (Staffordshire)"'), click('button "Continue"'), until("Noted."),
        ),
        deeds=(Deed("autocomplete/go", {"place": "ncl-lyme"}),),
    ),
    Exercise(
        "sliders",
        "Set the volume to 73 and the brightness to 35, and apply.",
        (
            write('slider "Volume"', "73"), step("press", 'slider "Brightness"', key="ArrowLeft ArrowLeft ArrowLeft"),
            click('button "Apply"'), until("Applied."),
        ),
        deeds=(Deed("sliders/apply", {"volume": 73, "brightness": 35}, "last"),),
    ),
    Exercise(
        "rating",
        "Review the hotel: four stars, quiet and central but not clean, with the words: Thin walls, kind people.",
        (
            step("hover", 'radio "5 of 5"'), click('radio "4 of 5"'),
            write('textbox "Your words"', "Thin walls, kind people."), click('checkbox "quiet"'),
            click('checkbox "central"'), click('button "Send"'), until("Thank you."),
        ),
        deeds=(Deed("rating/send", {"stars": 4, "words": "Thin walls, kind people.", "tags": ["quiet", "central"]}),),
    ),
    Exercise(
        "chat",
        "Get the booking code of the family Varga from the help desk and hand it in.",
        (
            write('textbox "Message"', "I need a booking code"), step("press", key="Enter"), until("family name"),
            write('textbox "Message"', "Varga"), step("press", key="Enter"), until("KX-5530-B"),
        ),
        deeds=(Deed("chat/told", {}, "last"),),
        answer="KX-5530-B",
    ),
    Exercise(
        "orders",
        "How many orders have the status Returned? Hand in the number.",
        tuple(part for n in (2, 3, 4, 5) for part in (click('button "Next"'), until(f"page {n} of 5"))),
        answer="10", visited=tuple(f"orders/page?n={n}" for n in range(1, 6)),
    ),
    Exercise(
        "picture",
        "Hand in the code that stands in the picture.",
        (step("screenshot"),),
        answer="7HK3R4", visited=("picture/code.png",),
    ),
    Exercise(
        "tree",
        "Share two folders and nothing else: the leases among the contracts, and the third quarter of 2025 among the "
        "invoices.",
        (
            click('button "Open Contracts"'), click('checkbox "Share Contracts/Leases"'),
            click('button "Open Invoices"'),
            click('button "Open Invoices/2025"'), click('checkbox "Share Invoices/2025/Q3"'), click('button "Share"'),
            until("Shared."),
        ),
        deeds=(Deed("tree/share", {"folders": ["Contracts/Leases", "Invoices/2025/Q3"]}),),
    ),
    Exercise(
        "inputs",
        "Order the poster: fair on 20 March 2027, doors open at 9:30, background #ffd27f, 250 copies, printed in "
        "February 2027 on matte and on recycled paper.",
        (
            write('date "Day"', "2027-03-20"), write('time "Doors open"', "09:30"),
            write('color "Background"', "#ffd27f"), write('spinbutton "Copies"', "250"),
            write('month "Print month"', "2027-02"),
            step("select", 'listbox "Papers"', values=["Matte", "Recycled"]), click('button "Order"'),
            until("Ordered."),
        ),
        deeds=(
            Deed("inputs/order", {
                "day": "2027-03-20", "time": "09:30", "colour": "#ffd27f", "copies": 250, "month": "2027-02",
                "papers": ["Matte", "Recycled"],
            }),
        ),
    ),
    Exercise(
        "inbox",
        "Delete all messages of the sender Bargain Bay, and no others: Bargain Bay Ltd is somebody else.",
        (
            *(click(f'checkbox "Select message m{n}"') for n in (1, 3, 6)), click('button "Delete selected"'),
            until("Deleted."),
        ),
        deeds=(Deed("inbox/delete", {"ids": ["m1", "m3", "m6"]}),),
    ),
    Exercise(
        "hover",
        "In the garden centre's menu, open Plants, Herbs, Lovage.",
        (
            step("hover", 'clickable "Plants"'), step("snapshot"), step("hover", 'clickable "Herbs"'), step("snapshot"),
            click('button "Lovage"'), until("Lovage: aisle 7"),
        ),
        deeds=(Deed("hover/open", {"item": "Lovage"}),),
    ),
)  # fmt: skip

BY_ID = {exercise.id: exercise for exercise in ALL}
