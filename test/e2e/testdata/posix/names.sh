# Names and paths at their limits.
n255=$(printf '%0255d' 7)
n200=$(printf '%0200d' 7)
say names
echo 255 > "$n255"; cat "$n255"
(touch "${n255}x") 2>&1 | grep -o 'File name too long'
mkdir "${n255}" 2>&1 | grep -o 'File exists'
mv "$n255" m; mv m "$n255"; ln "$n255" l; ln -s "$n255" s; cat s l; rm "$n255"; cat l
mkdir "$n255"; echo in > "$n255/$n255"; cat "$n255/$n255"; ls "$n255" | wc -c
odd=$(printf 'a\001\377\n\\%%41 *?"\177')
echo odd > "$odd"; cat "$odd"; ls | grep -c 41; rm "$odd"
for n in '...' '-' '.x' ' ' 'a%2Fb' '%tf-dir-x'; do echo "$n" > "./$n.f"; cat "./$n.f"; done
say paths
top=$(pwd -P)
p=
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do mkdir "$n200"; cd "$n200"; p=$p$n200/; done
rest=$(printf '%075d' 7)
cd "$top"; echo deep > "$p$rest"; printf %s "$p$rest" | wc -c; cat "$p$rest"
(cat "$p${rest}x") 2>&1 | grep -o 'File name too long'
find . -type f -size 5c -printf '%d %s\n' -exec true \; | sort -n | tail -1
ln -s "$(printf '%04000d' 7)" long; readlink long | wc -c
rm -rf "$n200"; ls | wc -l
