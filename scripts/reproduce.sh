# Sourced by the scripts of tables and figures. `reproduce PLAN TITLE [options and key=value of sss-gluon sweep]` runs
# configs/plans/PLAN.yaml, then writes tables, figures and report.html into the folder `report` beside its runs. A run
# that fails does not stop the others; the finished runs are reported, and the exit status is 1.
#
#   --dry-run          print the runs, their state and their cost, and do nothing
#   --smoke            run everything on small data, in minutes, in runs/smoke
#   --devices gpu0     devices of a run          --data-root DIR    folder of the data set
#   --runs DIR         where the runs go         --only REGEX, --shard I/N    only some of the runs

source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up run
cd "$repo"

reproduce() {
    local plan=configs/plans/$1.yaml title=$2 status=0 folder
    shift 2
    sss-gluon sweep "$plan" "$@" || status=$?
    [ "$status" -le 1 ] || exit "$status"
    case " $* " in *' --dry-run '* | *' --where '*) return "$status" ;; esac
    folder=$(sss-gluon sweep "$plan" "$@" --where)
    sss-gluon report "$folder" --out "$folder/report" --title "$title"
    return "$status"
}
