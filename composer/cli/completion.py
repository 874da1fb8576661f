"""`composer completion SHELL`: the script that makes a shell ask us. What is offered is in `complete`."""

from __future__ import annotations

from composer.cli.context import Context
from composer.cli.grammar import Positional, Verb
from composer.errors import UsageError

VERB = Verb(
    "completion",
    "Print the completion script for a shell",
    (),
    (Positional("SHELL", "bash, zsh or fish", complete="shell"),),
    examples=(
        ("completion bash > /etc/bash_completion.d/composer", "for everybody"),
        ("completion zsh > ~/.zfunc/_composer", "with ~/.zfunc in fpath"),
        ("completion fish > ~/.config/fish/completions/composer.fish", "for oneself"),
    ),
)
BASH = r"""# bash completion for composer
_composer() {
    local line
    COMPREPLY=()
    while IFS=$'\t' read -r line _; do
        if [[ $line == :files ]]; then
            COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
        else
            COMPREPLY+=("$line")
        fi
    done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o filenames -F _composer composer
"""
ZSH = r"""#compdef composer
_composer() {
    local word text
    local -a offers
    while IFS=$'\t' read -r word text; do
        if [[ $word == :files ]]; then
            _files
        else
            offers+=("${word//:/\\:}:$text")
        fi
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#offers} )) && _describe composer offers
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _composer "$@"; else compdef _composer composer; fi
"""
FISH = r"""# fish completion for composer
function __composer_offers
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
        if test $line = ":files"\t
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c composer -f -a '(__composer_offers)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def run(context: Context, *, shell: str) -> int:
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for {shell!r}", hint="bash, zsh or fish")
    print(SCRIPTS[shell], end="")
    return 0
