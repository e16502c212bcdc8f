_flanneld() {
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]}
    # bash makes a word of an equal sign.
    case $cur in =) cur= ;; esac
    case $flag in =) flag=${COMP_WORDS[COMP_CWORD-2]} ;; esac
    COMPREPLY=()
    case ${flag#-} in
    @VALUES@) ;;
    esac
    case $cur in
    --*) COMPREPLY=($(compgen -P -- -W "@FLAGS@" -- "${cur#--}")) ;;
    *) COMPREPLY=($(compgen -P - -W "@FLAGS@" -- "${cur#-}")) ;;
    esac
}
