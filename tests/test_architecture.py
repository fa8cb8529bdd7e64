"""The dependency rules, size budgets and safety rules of the design, read from the source itself."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "kd").rglob("*.py"), *(ROOT / "entrypoints").rglob("*.py")])
# The floors of the house, from the top: a folder uses those below it, and of its own floor none but itself.
FLOORS = (
    ("entrypoints",),
    ("commands",),
    ("search",),
    ("sweep",),
    ("space",),
    ("registry",),
    ("run",),
    ("report", "serving"),
    ("tasks", "teacher", "training"),
    ("analysis", "data", "evaluation", "models", "objectives", "selection", "tracking"),
    ("config",),
    ("base",),
)
FLOOR = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
LOOSE = {"kd", "kd.__main__", "kd.api"}
# library -> the only modules that may import it
ONLY_IN = {
    "mlflow": ("kd.tracking", "kd.tracking.*", "kd.tasks.*.served"),
    "optuna": ("kd.search.*",),
    "hashlib": ("kd.base.hashing",),
}
# library -> how many modules at most may import it
AT_MOST = {"peft": 1}
# folders whose files are strategies: a file imports of its siblings only `base`
STRATEGIES = ("kd/objectives", "kd/selection", "kd/tasks")
# folder -> lines a file, the most specific first
LINES = {"entrypoints": 15, "kd/commands": 150, "kd/objectives": 120, "kd/selection": 120, "kd": 400}
FUNCTION_LINES, ARGUMENTS = 50, 6
SHIPPED = ("kd.models.forecast",)
"""Folders that are stored with a model and run from there: their files import one another by their place alone."""


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
PATHS = {module_name(path): path for path in FILES}


def type_checking_only(tree):
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {id(inner) for block in blocks for part in block.body for inner in ast.walk(part)}


def imports(module, with_types=True):
    """Names of all modules imported anywhere in a module, also inside functions and by import_module("...")."""
    skipped = set() if with_types else type_checking_only(TREES[module])
    found = set()
    for node in ast.walk(TREES[module]):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            shipped = next((one for one in SHIPPED if within(module, one)), None)
            assert node.level == (0 if shipped is None or not node.level else 1), (
                f"{module}: relative imports hide what depends on what"
            )
            source = f"{shipped}.{node.module}" if node.level else node.module
            inside = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in TREES else source for name in inside}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    return found


def within(module, part):
    return module == part or module.startswith(part + ".")


def ours(module, with_types=True):
    return {name for name in imports(module, with_types) if within(name, "kd") or within(name, "entrypoints")}


def folder_of(module):
    """The folder of the house that a module lies in; empty for those beside the folders."""
    parts = module.split(".")
    return "entrypoints" if parts[0] == "entrypoints" else parts[1] if len(parts) > 1 and module not in LOOSE else ""


@pytest.mark.parametrize("module", [module for module in TREES if folder_of(module)])
def test_a_folder_uses_the_floors_below_it_and_never_those_above(module):
    own = folder_of(module)
    wrong = [
        name
        for name in ours(module)
        if (other := folder_of(name)) and other != own and FLOOR[other] <= FLOOR[own]
    ]  # fmt: skip
    assert not wrong


def test_every_folder_has_a_floor_and_no_module_lies_loose_so_none_escapes_the_order():
    assert {folder_of(module) for module in TREES} - {""} <= FLOOR.keys()
    loose = {module for module in TREES if module.count(".") == 1 and module.startswith("kd.")}
    assert {module for module in loose if PATHS[module].name != "__init__.py"} <= LOOSE


def test_entry_points_are_leaves():
    assert not [f"{module} imports {name}" for module in TREES for name in ours(module) if within(name, "entrypoints")
                and not within(module, "entrypoints")]  # fmt: skip


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_confined_to_its_module_so_the_rest_works_without_it(library):
    def allowed(module):
        return any(Path(module).match(pattern) for pattern in ONLY_IN[library])

    assert not [m for m in TREES if any(within(name, library) for name in imports(m)) and not allowed(m)]


@pytest.mark.parametrize("library", AT_MOST)
def test_a_library_has_one_importer(library):
    importers = [m for m in TREES if any(within(name, library) for name in imports(m))]
    assert len(importers) <= AT_MOST[library], importers


@pytest.mark.parametrize("module", [module for module in TREES if within(module, "kd")])
def test_no_message_names_a_command_that_works_in_a_clone_alone(module):
    nodes = [*ast.walk(TREES[module])]
    about = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in about]
    assert not [
        text
        for text in texts
        if isinstance(text, str) and re.search(r"entrypoints\.|\bmake (ui|demo|test|bench)\b", text)
    ]


def test_a_served_model_needs_nothing_of_this_project():
    served = [module for module in TREES if module.endswith(".served")]
    assert served
    assert not {module: ours(module) for module in served if ours(module)}
    for folder in SHIPPED:
        inside = [module for module in TREES if within(module, folder)]
        assert inside
        assert not {module: away for module in inside if (away := {n for n in ours(module) if not within(n, folder)})}


@pytest.mark.parametrize("folder", STRATEGIES)
def test_strategies_know_only_their_base_so_each_can_be_read_alone(folder):
    package = folder.replace("/", ".")
    for module in TREES:
        if not within(module, package) or module == package:
            continue
        own = ".".join(module.split(".")[:3])  # a strategy may be a folder
        siblings = {name for name in ours(module) if within(name, package) and not within(name, own)}
        assert siblings <= {f"{package}.base"}, module


def test_there_is_no_import_circle_not_even_a_lazy_one():
    graph = {module: ours(module, with_types=False) - {module} for module in TREES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_comparing_loads_neither_torch_nor_transformers_which_take_longer_than_the_comparison():
    code = "import sys, kd.commands.compare; print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", TREES)
def test_files_and_functions_keep_their_budgets(module):
    path = PATHS[module].relative_to(ROOT)
    budget = next(lines for folder, lines in LINES.items() if path.is_relative_to(folder))
    assert len(PATHS[module].read_text(encoding="utf-8").splitlines()) <= budget
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            given = [one.arg for one in listed if one.arg not in ("self", "cls")]
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{node.name} is too long"
            assert len(given) <= ARGUMENTS, f"{node.name} takes {len(given)} arguments"


def unsafe(call):
    """Why a call could run code that is not ours, or None."""
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if given.get("trust_remote_code", "False") != "False":
        return "trust_remote_code"
    if given.get("shell", "False") != "False" or name in ("os.system", "os.popen"):
        return "a shell"
    if name.endswith("torch.load") and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return "allow_pickle"
    if name in ("eval", "exec") or (name.endswith((".load", ".loads", ".Unpickler")) and "pickle" in name):
        return name
    return None


@pytest.mark.parametrize(
    "code",
    [
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "pickle.load(f)",
        "cloudpickle.loads(b)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
    ],
)
def test_the_safety_rule_sees_what_it_must_see(code):
    assert unsafe(ast.parse(code).body[0].value)


@pytest.mark.parametrize("module", TREES)
def test_nothing_executes_code_that_came_with_data_or_weights(module):
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    assert not [f"line {call.lineno}: {unsafe(call)}" for call in calls if unsafe(call)]
