declare -A _rflannel_words=(
@WORDS@)
declare -A _rflannel_values=(
@VALUES@)
declare -A _rflannel_operands=(
@OPERANDS@)
declare -A _rflannel_excluded=(
@EXCLUDED@)

# What an operand or a value is: words, or one of these.
_rflannel_offer() {
    local cur=$1
    shift
    case $1 in
    @none) ;;
    @files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    @directories) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
    @hosts) COMPREPLY=($(compgen -W "$(rflannel lab ps 2>/dev/null | awk '/^  /{print $1}')" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$*" -- "$cur")) ;;
    esac
}

_rflannel() {
    local cur=${COMP_WORDS[COMP_CWORD]} path=rflannel flag= joined= given=" " operands=0 word i takes
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # bash makes a word of an equal sign.
        if [[ $word == = ]]; then
            joined=1
            continue
        fi
        takes=${_rflannel_values["$path $flag"]}
        if [[ -n $flag && -n $takes && ( -n $joined || $takes != =* ) ]]; then
            flag= joined=
            continue
        fi
        flag= joined=
        if [[ $word == -- ]]; then
            _rflannel_rest "$path" "$((i + 1))"
            return
        elif [[ $word == -* ]]; then
            flag=$word given+="$word ${_rflannel_excluded["$path $word"]} "
        elif [[ $operands == 0 && -n ${_rflannel_words["$path $word"]} ]]; then
            path+=" $word"
        else
            operands=$((operands + 1))
        fi
    done
    [[ $cur != = ]] || joined=1 cur=
    takes=${_rflannel_values["$path $flag"]}
    if [[ -n $flag && -n $takes && ( -n $joined || $takes != =* ) ]]; then
        _rflannel_offer "$cur" ${takes#=}
        return
    fi
    if [[ $cur == -* ]]; then
        for word in ${_rflannel_words["$path"]}; do
            [[ $word != -* || $given == *" $word "* ]] || COMPREPLY+=($(compgen -W "$word" -- "$cur"))
        done
        return
    fi
    local offer=(${_rflannel_operands["$path $operands"]})
    if [[ $operands == 0 ]]; then
        for word in ${_rflannel_words["$path"]}; do
            [[ $word == -* ]] || offer+=("$word")
        done
    fi
    [[ ${#offer[@]} == 0 ]] || _rflannel_offer "$cur" "${offer[@]}"
}

# What follows two dashes: a command on a host of a lab, or the daemon's flags.
_rflannel_rest() {
    local first=$2
    if [[ $1 == "rflannel lab exec" ]]; then
        if [[ $COMP_CWORD == "$first" ]]; then
            COMPREPLY=($(compgen -c -- "${COMP_WORDS[COMP_CWORD]}"))
        else
            _rflannel_offer "${COMP_WORDS[COMP_CWORD]}" @files
        fi
    elif [[ -n ${_rflannel_operands["$1 --"]} ]]; then
        _flanneld
    fi
}
complete -F _rflannel rflannel
