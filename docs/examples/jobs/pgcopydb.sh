# Copies a database, and resumes if a copy was begun: sh pgcopydb.sh PGCOPYDB SOURCE TARGET JOBS
set -e
resume=
[ -e copy ] && resume="--resume --not-consistent"
exec "$1" clone --source "$2" --target "$3" --dir copy --table-jobs "$4" --index-jobs "$4" $resume
