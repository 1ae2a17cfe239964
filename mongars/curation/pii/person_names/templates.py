"""Synthetic sentences for the tagger of person names, in English and French, with and without names.

All sentences are our own. The names are common first and last names of several languages; no sentence is about a
real person.
"""

import random

_FIRST_NAMES = """
Anna Bruno Chloe David Emil Fatima Gilles Hanna Ivan Jeanne James Mary Robert Patricia John Jennifer Michael
Linda William Elizabeth Richard Barbara Joseph Susan Thomas Jessica Charles Sarah Christopher Karen Daniel
Lisa Matthew Nancy Anthony Betty Mark Sandra Donald Margaret Steven Ashley Andrew Kimberly Paul Emily Joshua
Donna Kenneth Michelle Kevin Carol Brian Amanda George Melissa Timothy Deborah Ronald Stephanie Jason
Rebecca Edward Laura Jeffrey Helen Ryan Sharon Jacob Cynthia Gary Kathleen Nicholas Amy Eric Angela Jonathan
Shirley Stephen Larry Justin Pamela Scott Nicole Brandon Samantha Benjamin Katherine Samuel Christine
Gregory Debra Alexander Rachel Patrick Carolyn Frank Janet Raymond Catherine Jack Maria Dennis Heather Jerry
Diane Tyler Olivia Aaron Julie Jose Joyce Adam Victoria Nathan Ruth Henry Virginia Zachary Lauren Peter
Kelly Kyle Christina Noah Joan Ethan Evelyn Jeremy Judith Walter Andrea Christian Megan Keith Cheryl Roger
Jacqueline Terry Madison Sean Teresa Carl Sophie Marie Pierre Jean Luc Camille Julien Nathalie Isabelle
Philippe Laurent Céline François Sylvie Hélène Étienne Mathieu Amélie Antoine Claire Benoît Élodie Guillaume
Manon Hugo Léa Louis Inès Théo Zoé Maxime Lucie Clément Margaux Baptiste Juliette Nicolas Valérie Thierry
Florence Olivier Aurélie Sébastien Sandrine Jérôme Mohamed Ahmed Ali Yusuf Omar Aisha Layla Hassan Amina
Carlos Luis Miguel Elena Lucia Sofia Diego Pablo Carmen Marco Giulia Luca Francesca Paolo Chiara Hans Greta
Lars Ingrid Sven Astrid Bjorn Freya Olga Dmitri Natasha Sergei Svetlana Igor Katya Wei Li Ming Yuki Hiroshi
Kenji Sakura Akira Raj Priya Arjun Anjali Ravi Deepa Sanjay Kavita Kwame Ama Chidi Ngozi Thabo Amara Emma
Mia Ava Luna Harper Liam Mason Logan Lucas Oliver Mike Joe Tom Bob Jim Dan Ben Sam Steve Dave Chris Matt
Nick Tony Greg Jeff Kate Katie Jen Liz Beth Meg Sue Ann Kim Pam Judy Tamara Wendy Brenda Gloria Rosa Alice
Julia Grace Amber Denise Marilyn Danielle Brittany Diana Abigail Jane Lori Alan Eugene Russell Philip Wayne
Roy Ralph Vincent Randy Howard Arthur Leon Max Felix Oscar Victor Simon Martin Stella Nora Iris Clara Rose
"""
_LAST_NAMES = """
Martin Keller Okafor Lindqvist Moreau Santos Novak Byrne Haddad Roy Smith Johnson Williams Brown Jones
Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson Anderson Thomas Taylor Moore Jackson
Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen King Wright Scott
Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez
Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook Rogers
Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward Richardson Watson Brooks
Chavez Wood Bennett Gray Mendoza Ruiz Hughes Price Alvarez Castillo Sanders Patel Myers Long Ross Foster
Jimenez Bernard Dubois Durand Petit Leroy Moulin Simon Laurent Lefebvre Michel Lefèvre Girard Bonnet Dupont
Lambert Fontaine Rousseau Vincent Muller Faure Mercier Blanc Guérin Boyer Garnier Chevalier François Legrand
Gauthier Perrin Robin Clément Morin Nicolas Henry Roussel Gagnon Tremblay Bouchard Côté Fortin Gagné Ouellet
Pelletier Bélanger Lévesque Bergeron Leblanc Paquette Girouard Simard Boucher Caron Beaulieu Cloutier Dubé
Poirier Fournier Lapointe Rossi Russo Ferrari Bianchi Romano Schmidt Schneider Fischer Weber Meyer Wagner
Becker Schulz Hoffmann Koch Bauer Richter Klein Wolf Jansen Visser Bakker Andersson Johansson Karlsson
Nilsson Eriksson Larsen Olsen Hansen Pedersen Nielsen Jensen Kowalski Nowak Wiśniewski Ivanov Petrov Volkov
Popescu Kovács Nagy Tanaka Suzuki Sato Yamamoto Chen Wang Zhang Liu Singh Kumar Sharma Gupta Khan Hussain
Ahmed Mensah Adeyemi Silva Costa Pereira Oliveira O'Brien O'Connor McDonald MacLeod Fitzgerald Sullivan
Kennedy Walsh Doyle Quinn Van Dijk Griffin Hayes Coleman Jenkins Perry Powell Barnes Fisher
"""
# Capitalised words that are not names of people: places, companies, days, languages, titles, starts of sentences.
_OTHER_CAPITALS = """
London Paris Montreal Lyon Berlin Toronto Boston Chicago Seattle Madrid Rome Tokyo Brussels Geneva Marseille
Québec Texas California Oakland Sacramento Fresno Napa Anaheim Sydney Vancouver Phoenix Dallas Denver
Atlanta Miami Houston Canada France Germany Italy Spain Japan India Brazil Mexico England Europe Africa Asia
America Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June July
August September October November December English French Spanish Italian Chinese Google Apple Amazon
Microsoft Facebook Twitter Netflix Python Java Linux Windows Chrome Spotify Uber Tesla Toyota Honda Ford
Disney Nike Pepsi Starbucks Walmart Reddit YouTube Instagram Christmas Easter Thanksgiving Halloween Netflix
Wikipedia Internet GPS USA NASA FBI CEO TV PDF SQL API HTML DVD Hilton Marriott Airbnb Airlines University
College Museum Hotel Restaurant Street Avenue Park Center Bank Company Democrats Republicans Congress Senate
Olympics Bible Mars Earth Moon Atlantic Pacific Hollywood Broadway Italian Mexican Indian Thai American
British Canadian Lundi Mardi Janvier Noël Thanks Hello Please Yes No What When Where Who Why How The This
That These There It Is Are Do Does Can Could Would Should Will You We They He She My Your Our His Her Their
And But Or So If Then Also Just Only Okay Sure Great Good Nice Cool Sorry Bonjour Merci Oui Non Je Tu Il
Elle Nous Vous Le La Les Un Une Des Et Mais Ou Est Que Qui Quoi
"""
# {n} is a full name, {f} a first and {l} a last one; {o}, {p} and {q} are other capitals.
_WITH_NAMES = """
My name is {n}.|I am {n} and I need help.|I'm {f}, nice to meet you.|This is {n} speaking.
Hi {f}, how are you?|Hello {f}!|Thanks {f}, that is great.|{f} and {g} are coming to dinner on {o}.
I talked to {n} yesterday about the {o} trip.|{n} lives in {o}.|Can you ask {f} to call me?
Please send 20 dollars to {f}.|I need an appointment with Dr. {l}.|Mr. {l} will see you now.
Mrs. {n} has two cats.|Ms. {l} works at {o}.|my friend {f} told me so|My brother {f} is in {o}.
My wife {f} likes {o}.|{f} said that it rains.|{f} is my sister.|Regards, {n}|Best, {f}
Dear {n}, please find it enclosed.|Dear {f},|Name: {n}|Written by {n}.
The meeting with {n} and {m} is on {o}.|{n}'s car is red.|I love {f}'s cooking.|Have you met {f}?
Who is {n}?|I voted for {l}.|{l} won the match in {o}.|He plays like {n}.|Did {f} text you?
Tell {f} I said hi.|Is {f} there?|{f} {l} {o}|Je m'appelle {n}.|Je suis {n}, de {o}.
Bonjour {f}, comment vas-tu ?|Merci {f} !|Mon ami {f} habite à {o}.|Monsieur {l} est absent.
Madame {l} arrive {o}.|Peux-tu appeler {f} ?|J'ai vu {n} hier.|{f} et {g} viennent ce soir.
Cordialement, {n}|Chère {f},|Cher {f},|Ma sœur {f} travaille chez {o}.|Le docteur {l} vous recevra.
{n} est né à {o}.|with {n} at the {o}|RT by {n}: so true|{f}, are you in {o}?
"""
_WITHOUT_NAMES = """
I live in {o}.|We fly from {o} to {p} on {q}.|{o} is closed on {p}.|The {o} team lost.
{o} bought {p} last year.|I want to book a table in {o}.|Find me a {o} restaurant in {p}.
Is there a flight to {o}?|{o}, please.|I work at {o} in {p}.|My {o} account is locked.|I like {o} and {p}.
Do you know {o}?|What is the weather in {o}?|Hello {o}!|Thanks, see you {o}.|{o} released a new phone.
How do I install {o} on {p}?|J'habite à {o}.|Nous partons pour {o} en {p}.|{o} est fermé le {p}.
Je travaille chez {o}.|Il fait beau à {o}.|La ville de {o} est belle.|{o} {p} {q}|the {o} {p}
I Love The New {o} Song|Best {o} Movies Of The Year|{o}: {p} and {q}|I am from {o}.
The {o} Hotel on {p} Avenue|I am {o}.|I need {o}.|My address is in {o}.|She is {o} and he is {p}.
with {o} at {p}|Search for {o} songs.|The movie {o} is on {q}.
"""


def _sentences(block: str) -> list[str]:
    return block.strip().replace("\n", "|").split("|")


FIRST, LAST, OTHER = _FIRST_NAMES.split(), _LAST_NAMES.split(), _OTHER_CAPITALS.split()
WITH_NAMES, WITHOUT_NAMES = _sentences(_WITH_NAMES), _sentences(_WITHOUT_NAMES)


_LOWER, _MIDDLE = 0.15, 0.1
"""Shares of sentences in lower case, and of full names with a middle initial."""


def sentences(count: int, *, seed: int) -> list[list[tuple[str, bool]]]:
    """Return `count` sentences as lists of (text, whether it is a name); half of them have names."""
    rng = random.Random(seed)  # noqa: S311 (training data, no secret)
    return [_filled(rng, rng.choice(WITH_NAMES if number % 2 else WITHOUT_NAMES)) for number in range(count)]


def _filled(rng: random.Random, template: str) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for place, piece in enumerate(template.replace("}", "{").split("{")):
        if place % 2 == 0:
            pieces.append((piece, False))
        elif piece in "opq":
            pieces.append((rng.choice(OTHER), False))
        else:
            pieces.append((_name(rng, piece), True))
    plain = rng.random() < _LOWER
    return [(piece.lower() if plain else piece, named) for piece, named in pieces if piece]


def _name(rng: random.Random, kind: str) -> str:
    if kind in "fg":
        return rng.choice(FIRST)
    if kind == "l":
        return rng.choice(LAST)
    middle = f" {rng.choice('ABCDEFGHJKLMRST')}." if rng.random() < _MIDDLE else ""
    return f"{rng.choice(FIRST)}{middle} {rng.choice(LAST)}"
