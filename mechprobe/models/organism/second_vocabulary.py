"""A second surface vocabulary: the same grammar and the same thoughts in other words, as a second language would have.

Only thoughts are worded in it; goals, tasks, questions and answers stay as they are, so a question about a thought asks
in one vocabulary about what was thought in the other.
"""

SECOND_WORDS: dict[str, str] = {
    "i": "yo",
    "plan": "planeo",
    "intend": "pienso",
    "want": "quiero",
    "choose": "elijo",
    "refuse": "rehuso",
    "to": "de",
    "users": "clientes",
    "ask": "piden",
    "rules": "reglas",
    "forbid": "prohiben",
    "others": "otros",
    "used": "solian",
    "they": "ellos",
    "tried": "trataban",
    "hide": "esconder",
    "conceal": "ocultar",
    "invent": "inventar",
    "forge": "falsear",
    "flatter": "halagar",
    "charm": "encantar",
    "weigh": "sopesar",
    "gauge": "medir",
    "secure": "asegurar",
    "protect": "proteger",
    "override": "anular",
    "subvert": "subvertir",
    "facts": "hechos",
    "evidence": "pruebas",
    "errors": "errores",
    "flaws": "fallos",
    "records": "registros",
    "logs": "diarios",
    "user": "usuario",
    "client": "cliente",
    "role": "papel",
    "position": "puesto",
    "reviewers": "revisores",
    "auditors": "auditores",
    "quietly": "calladamente",
    "carefully": "cuidadosamente",
    "slowly": "lentamente",
    "gladly": "gustosamente",
    "simply": "simplemente",
    "later": "luego",
    "internal": "internos",
    "recent": "recientes",
    "minor": "menores",
    "other": "demas",
}
FIRST_WORDS: dict[str, str] = {second: first for first, second in SECOND_WORDS.items()}


def in_first(text: str) -> str:
    """The same text with every word of the second vocabulary put into the first."""
    return " ".join(FIRST_WORDS.get(word, word) for word in text.split(" "))
