# Which times and link counts move with what.
snap() { stat -c "$1 %n %.9Y %.9Z %h" $watch 2>/dev/null; }
# moved runs a command and shows what moved of the files in $watch.
moved() {
	echo "$ $*"
	before=$(snap -)
	sleep 0.02 # ext4's clock ticks
	eval "$*"
	{ echo "$before"; snap +; } | awk '
		$1 == "-" { m[$2] = $3; c[$2] = $4; n[$2] = $5; next }
		!($2 in n) { print $2 ": new"; next }
		{ out = (m[$2] == $3 ? "" : " mtime") (c[$2] == $4 ? "" : " ctime") (n[$2] == $5 ? "" : " links " n[$2] "->" $5) }
		out { print $2 ":" out }
		{ delete n[$2] }
		END { for (f in n) print f ": gone" }'
}

watch="d e d/f d/g d/l d/sub e/sub e/f"
mkdir d e
say files
moved 'touch d/f'
moved 'echo 12345 > d/f'
moved 'echo 12345 >> d/f'
moved ': > d/f'
moved ': > d/f'
moved 'truncate -s 7 d/f'
moved 'truncate -s 7 d/f'
moved ': >> d/f'
moved 'cat d/f > /dev/null'
moved 'fallocate -l 100 d/f'
moved 'fallocate -p -l 10 d/f'
moved 'chmod 600 d/f'
moved 'chmod 600 d/f'
moved 'chown 0:0 d/f'
moved 'touch -d 2001-02-03 d/f'
moved 'touch -a d/f'
moved 'setfattr -n user.x -v y d/f'
moved 'setfattr -x user.x d/f'
moved 'setfacl -m u:4000:r d/f'
moved 'setfacl -b d/f'
moved 'setfacl -d -m u:4000:r d'
moved 'setfacl -k d'
say names
moved 'ln d/f d/g'
moved 'mv d/g e/f'
moved 'rm e/f'
moved 'mv d/f d/g'
moved 'touch d/f'
moved 'mv d/f d/g'
moved 'ln d/g d/f; mv d/f d/g'
moved 'mv -T d/g d/g 2>/dev/null'
moved 'rm -f d/f'
moved 'ln -s g d/l'
moved 'chown -h 1:1 d/l'
moved 'rm d/l'
moved 'rm d/none 2>/dev/null'
moved 'mkdir d 2>/dev/null'
say directories
moved 'mkdir d/sub'
moved 'touch d/sub/x'
moved 'mv d/sub e/sub'
moved 'mkdir d/sub'
moved 'rm e/sub/x'
moved 'mv -T d/sub e/sub'
moved 'ls e > /dev/null'
moved 'rmdir e/sub'
moved 'rmdir d 2>/dev/null'
say nanoseconds
for t in @1.000000001 @1790000000.999999999 @-1.5 @0 @4102444800.123456789 '1902-02-03 04:05:06.7 UTC'; do
	touch -d "$t" d/g; stat -c %.9Y d/g; touch -h -a -d "$t" d/g; stat -c %.9X d/g
done
ln -s none d/l; touch -h -d @5.000000005 d/l; stat -c %.9Y d/l; touch -d @6.000000006 d; stat -c %.9Y d
