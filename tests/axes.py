"""Which functions take or give tensors without saying their axes."""

import ast
import io
import re
import tokenize

# the letters that the sources' legends name; on a grid h w
LETTERS = "bchwnmdtpark"  # the last four never stand alone
NAME = rf"(?:[{LETTERS}HW1-9]|\([{LETTERS} ]+\)|steps|rgb|rows|pictures|\([a-z]+ [{LETTERS}]\))"
SEVERAL = rf"(?<![\w'.\-])(?!a )(?:{NAME})(?: {NAME})+(?: \.\.)?(?![\w'\-])|(?<![\w'.])[bnm] \.\.(?!\w)"
NOUNS = "sigma|levels?|schedule|weights?|masks?|bias|values|numbers are|rows|latents|tokens|queries|each|them|by"
ONE = rf"(?:->|: (?:1 or|one)?|\b(?:of|{NOUNS})) ?[{LETTERS[:-4]}](?: each)?(?= -> |$|[.,;:)]| of | and | - 1)"
LEVELS = rf"\b(?:levels|schedule) n\b|-> \d+\b|-> [{LETTERS}](?: each)?(?=[.,;:)]|$)"
WHATEVER = r"\b(?:any|whatever) (?:shape|axes)\b"
AXES = re.compile("|".join((SEVERAL, ONE, LEVELS, WHATEVER)), re.MULTILINE)
EINOPS = ("rearrange", "reduce", "repeat")


def names_axes(text):
    """Whether a text says the axes of a tensor: 'b n c', '-> n', 'of any shape'."""
    return AXES.search(text) is not None


def silent_functions(source):
    """(name, line) of every function in a source, closures too, whose tensors have no named axes anywhere in it."""
    comments = {token.start[0]: token.string for token in _tokens(source) if token.type == tokenize.COMMENT}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and _has_tensors(node) and not _says(node, comments):
            yield node.name, node.lineno


def _tokens(source):
    return tokenize.generate_tokens(io.StringIO(source).readline)


def _has_tensors(function):
    """A parameter or the result is a tensor or several; those in files, by name, are of all shapes."""
    given = function.args
    annotations = [arg.annotation for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg) if arg]
    texts = [ast.unparse(annotation) for annotation in (*annotations, function.returns) if annotation is not None]
    return any(
        re.search(r"\bTensor\b", re.sub(r"(?:Mapping|dict)\[[^]]*\]|Callable\[.*\]", "", text)) for text in texts
    )


def _says(function, comments):
    """In the docstring, in comments of the signature, or by moving axes with einops in the function's own body."""
    signature = range(function.lineno, function.body[0].lineno)
    texts = [ast.get_docstring(function) or "", *(comments.get(line, "") for line in signature)]
    calls = [node for node in _own(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    patterns = [call for call in calls if call.func.id in EINOPS and "->" in "".join(_texts(call))]
    return bool(patterns) or any(names_axes(text) for text in texts)


def _texts(call):
    return [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]


def _own(function):
    """The nodes of a function that do not belong to functions inside."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(node)
