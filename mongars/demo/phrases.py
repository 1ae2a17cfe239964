"""The text of the generated conversations: intents with several ways to ask and to answer, and slot values.

All of it was written for this project. Conversations with the same intents must differ enough that the curation
does not take them for near duplicates.
"""

from typing import NamedTuple


class Intent(NamedTuple):
    """Ways to ask and to answer; a `{slot}` has the same value of SLOTS in both."""

    name: str
    asks: tuple[str, ...]
    answers: tuple[str, ...]


SLOTS: dict[str, tuple[str, ...]] = {
    "city": ("Lyon", "Quebec", "Porto", "Bergen", "Galway", "Leipzig", "Turin", "Nantes", "Utrecht", "Ottawa"),
    "food": ("Thai", "Lebanese", "vegetarian", "Ethiopian", "Japanese", "Breton", "Mexican", "Greek"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "tomorrow"),
    "hour": ("half past six", "seven", "eight", "noon", "a quarter to nine", "one in the afternoon", "ten"),
    "party": ("two", "three", "four", "five", "six", "seven"),
    "device": ("router", "printer", "laptop", "tablet", "thermostat", "headset", "doorbell", "camera"),
    "fault": (
        "keeps losing the connection",
        "shows a red light",
        "makes a clicking noise",
        "will not switch on",
        "gets very hot",
        "freezes after an update",
        "forgets its settings",
    ),
    "plant": ("basil", "fig tree", "fern", "orchid", "tomatoes", "lavender", "lemon tree", "ivy"),
    "dish": ("lentil soup", "apple tart", "risotto", "flat bread", "mushroom stew", "omelette", "bean salad"),
    "item": ("blue jacket", "desk lamp", "water filter", "bicycle pump", "wool blanket", "coffee grinder"),
    "book": ("a history of maps", "a novel about lighthouses", "essays on walking", "a guide to night skies"),
    "sport": ("swimming", "cycling", "climbing", "rowing", "fencing", "running", "judo"),
    "amount": ("twenty", "forty", "sixty", "ninety", "one hundred and ten", "two hundred"),
    "month": ("January", "March", "April", "June", "August", "October", "November"),
}

INTENTS: tuple[Intent, ...] = (
    Intent(
        "table",
        (
            "Can you book a table for {party} at a {food} place in {city}?",
            "I want to eat {food} food in {city} on {day}, {party} of us.",
            "Is there a good {food} restaurant near the station in {city}?",
            "We are {party} people and would like {food} food around {hour}.",
        ),
        (
            "I found a {food} restaurant in {city} with room for {party}. Shall I reserve it for {hour}?",
            "Yes, there is one by the river. They still have a table on {day} at {hour}.",
            "The {food} kitchen on the main square takes {party} guests. Do you want to sit outside?",
            "There is a quiet place in {city}. It opens at {hour}, so I would go a little later.",
        ),
    ),
    Intent(
        "train",
        (
            "When does the next train to {city} leave?",
            "I need to be in {city} on {day} before {hour}. Which train should I take?",
            "Please find me a cheap ticket to {city} for {day}.",
            "Do I have to change trains on the way to {city}?",
        ),
        (
            "There is a direct train to {city} on {day}. It arrives shortly before {hour}.",
            "You change once and wait about twelve minutes. The whole trip to {city} takes three hours.",
            "The cheapest ticket for {day} costs {amount} euros and cannot be exchanged.",
            "If you leave at {hour}, you reach {city} in time and keep a seat by the window.",
        ),
    ),
    Intent(
        "repair",
        (
            "My {device} {fault}. What can I do?",
            "Since {day} the {device} {fault}, and I already restarted it.",
            "Could you help me with a {device}? It {fault}.",
            "The new {device} {fault} every evening around {hour}.",
        ),
        (
            "Please unplug the {device}, wait for a minute, and plug it in again. Tell me what you see.",
            "When a {device} {fault}, the cable is often the cause. Do you have another one at hand?",
            "Hold the small button at the back for ten seconds. The {device} then starts fresh.",
            "That sounds like a known problem. An update that came out on {day} should mend it.",
        ),
    ),
    Intent(
        "plant",
        (
            "How often should I water my {plant}?",
            "The leaves of the {plant} turn yellow. Is it too much sun?",
            "Where in the flat does {plant} grow best?",
            "I bought {plant} in {month} and it has not grown since.",
        ),
        (
            "Twice a week is enough for {plant}. Let the soil dry a little in between.",
            "Yellow leaves mostly mean too much water. Give the {plant} a pot with a hole.",
            "{plant} likes a bright window that does not face south. Turn it a little every {day}.",
            "It rests in winter. From {month} on you can feed it once a fortnight.",
        ),
    ),
    Intent(
        "cook",
        (
            "What do I need for {dish} for {party} people?",
            "How long does {dish} have to cook?",
            "I have an hour until {hour}. Can I still make {dish}?",
            "My {dish} always gets too dry. Any idea why?",
        ),
        (
            "For {party} people take two onions, a little oil, salt, and patience. I can write you a list.",
            "About forty minutes on a low flame. Stir the {dish} now and then.",
            "Yes, {dish} is quick. Start with the vegetables, the rest can wait.",
            "Cover the pot and add half a cup of water. {dish} should never boil hard.",
        ),
    ),
    Intent(
        "order",
        (
            "Where is my order? I bought a {item} on {day}.",
            "I would like to return the {item}, it does not fit.",
            "Does the {item} come in another colour?",
            "I paid {amount} euros for a {item} and it arrived broken.",
        ),
        (
            "The {item} left our house on {day} and should arrive within two days.",
            "Of course. I send you a label, and the {amount} euros come back to you next week.",
            "The {item} also comes in green and in grey. Shall I put one aside?",
            "I am sorry about that. A new {item} goes out today, and you may keep the broken one.",
        ),
    ),
    Intent(
        "read",
        (
            "Can you recommend something to read? I liked {book}.",
            "Is {book} worth the time?",
            "I look for {book} as a present for a friend in {city}.",
            "What should I read after {book}?",
        ),
        (
            "If you liked {book}, try the diaries of a ship's cook. They are short and funny.",
            "I think so. The first chapter is slow, but after that it is hard to stop.",
            "The shop in {city} has it on the shelf. They wrap presents until {hour}.",
            "Many readers go on with letters from the north. It takes up the same thread.",
        ),
    ),
    Intent(
        "sport",
        (
            "Is there a {sport} course for beginners on {day}?",
            "How do I start with {sport} when I am past fifty?",
            "What does a month of {sport} cost at the club in {city}?",
            "My shoulder hurts after {sport}. Should I stop?",
        ),
        (
            "Yes, {sport} for beginners is on {day} at {hour}. The first lesson is free.",
            "Start slowly, twice a week for half an hour, and rest a day in between.",
            "The club in {city} asks {amount} euros a month, shoes and towels included.",
            "Take a break of a week. If it still hurts after {sport}, see a doctor.",
        ),
    ),
    Intent(
        "bank",
        (
            "I do not recognise a payment of {amount} euros from {day}.",
            "Can I move {amount} euros to my savings every {month}?",
            "How do I block my card while I travel to {city}?",
            "When is the rent of {month} taken from the account?",
        ),
        (
            "The payment on {day} came from a petrol station. Shall I dispute it for you?",
            "I set up a standing order of {amount} euros. You can stop it at any time.",
            "Open the settings, choose the card, and press pause. It works in {city} as well.",
            "The rent goes out on the first working day of {month}, in the morning.",
        ),
    ),
    Intent(
        "weather",
        (
            "Will it rain in {city} on {day}?",
            "Do I need a coat in {city} at the end of {month}?",
            "How warm does it get on {day} around {hour}?",
            "Is {month} a good time to visit {city}?",
        ),
        (
            "A little rain in the morning, then the sky over {city} clears up until {hour}.",
            "Take a light coat. Evenings in {month} are cool near the water.",
            "About nineteen degrees on {day}, with some wind from the west.",
            "Yes, {month} is mild in {city}, and the hotels are half empty.",
        ),
    ),
)

OPENERS = ("Hello.", "Good morning.", "Hi there.", "Hey, a question.", "Good evening.", "Excuse me.", "")
FOLLOW_UPS = (
    ("Thank you. And one more thing.", "Of course, what is it?"),
    ("Are you sure about that?", "Quite sure, I looked it up a moment ago."),
    ("Could you say that again, please?", "Gladly. Tell me which part was not clear."),
    ("That is more than I expected.", "I understand. We can look for something simpler."),
    ("Perfect, that helps a lot.", "Glad to hear it. Is there anything else?"),
    ("I have to think about it.", "Take your time, nothing runs away."),
)
CLOSERS = (
    ("Thanks, that was all.", "You are welcome. Have a good day."),
    ("Great, bye for now.", "Goodbye, and good luck."),
    ("I will try that tonight.", "Do, and tell me how it went."),
    ("No, nothing else.", "Then I wish you a pleasant {day}."),
)

FIRST_NAMES = ("Anna", "Bruno", "Chloe", "David", "Emil", "Fatima", "Gilles", "Hanna", "Ivan", "Jeanne")
LAST_NAMES = ("Martin", "Keller", "Okafor", "Lindqvist", "Moreau", "Santos", "Novak", "Byrne", "Haddad", "Roy")

JUNK_TURNS = (
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now",
    "!!!!!!!! ?????? $$$$$$$$ ######## @@@@@@@@ ((((((((",
    "0000 1111 2222 3333 4444 5555 6666 7777 8888 9999 0000 1111",
    "ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha",
    "",
)
