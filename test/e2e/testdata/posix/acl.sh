# POSIX ACLs: acl(5), setfacl(1). Users: 4000 is named in the ACLs, 5000 is nobody's.
umask 077
show() { # mode, owner and ACLs
	for f; do
		stat -c '%n %A %u:%g' "$f"
		getfacl -cn "$f" 2>/dev/null | tr '\n' ' '
		echo
	done
}

say a file, its mask and its mode
touch f; chown 1000:1000 f; chmod 640 f
try setfacl -m u:4000:rw,g:4444:r f; show f
say chmod changes the mask
try chmod 604 f; show f
try chmod 770 f; show f
say setfacl changes the mode
try setfacl -m m::r,u::r,o::x f; show f
try setfacl -x u:4000,g:4444,m f; show f
try setfacl -m u:4000:rwx f; try setfacl -b f; show f
getfattr -d -m - f
try setfacl -m u:4000:rwx f
getfattr -m - f 2>&1 | grep -v '^$'

say who gets in
echo content > r; chmod 600 r; setfacl -m u:4000:r,g:4444:rw r
try as 4000:4000 cat r
try as 4000:4000 dd of=r if=/dev/null conv=notrunc status=none
try as 5000:5000 cat r
try as 5000:4444 cat r
try as 5000:4444 dd of=r if=/dev/null conv=notrunc status=none
try chmod g-w r
try as 5000:4444 dd of=r if=/dev/null conv=notrunc status=none
try setfacl -m u:4000:---,o::r r
try as 4000:4000 cat r
try as 5000:5000 cat r
mkdir way; echo x > way/f; chmod 755 way/f; chmod 700 way; setfacl -m u:4000:x way
try as 4000:4000 cat way/f
try as 4000:4000 ls way
try as 5000:5000 cat way/f
setfacl -m u:4000:rwx way
try as 4000:4000 touch way/g
stat -c '%n %A %u:%g' way/g

say who may set
try as 4000:4000 setfacl -m u:4000:rwx r
touch own; chown 4000:4000 own
try as 4000:4000 setfacl -m u:5000:rw own; show own
say the set-group-ID bit goes with an ACL of somebody outside of the group
chown 4000:4444 own; chmod 6770 own
try as 4000:4444 setfacl -m u:5000:r own; stat -c %A own
try as 4000:4000 setfacl -m u:5000:rx own; stat -c %A own

say inherited
mkdir d; setfacl -d -m u:4000:rwx,g::rx,o::- d; chmod 2755 d; chgrp 4444 d; show d
touch d/f; mkdir d/sub; mkfifo -m 622 d/fifo; ln -s f d/link; mkfifo d/fifo2; show d/f d/sub d/fifo d/fifo2
try getfacl -cn d/link | head -1
(umask 0; touch d/sub/open; mkdir -m 700 d/sub/closed); show d/sub/open d/sub/closed
try as 4000:4000 sh -c 'echo by 4000 > d/sub/new'; show d/sub/new
say umask counts where there is no default ACL
(umask 027; touch plain; mkdir plaind; mkfifo plainf); show plain plaind plainf
say a default ACL that the mode can say
mkdir e; setfacl -d -m u::rwx,g::rx,o::x e; (umask 0; touch e/f; mkdir e/d); show e e/f e/d
try setfacl -k e; show e
touch e/g; show e/g
say moved and linked entries keep what they have
mv plain d/plain; ln own d/own; show d/plain d/own

say refused
try setfacl -d -m u:4000:r f
try setfattr -n system.posix_acl_access -v 0x01 f
try setfattr -n system.posix_acl_access -v 0x0300000001000600ffffffff04000400ffffffff20000400ffffffff f
try setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff04000400ffffffff f
try setfattr -n system.posix_acl_access -v 0x0200000001000800ffffffff04000400ffffffff20000400ffffffff f
try setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff02000600e803000004000400ffffffff20000400ffffffff f
try setfattr -h -n system.posix_acl_access -v 0x0200000001000600ffffffff04000400ffffffff20000400ffffffff d/link
try setfattr -x system.posix_acl_access e
try setfattr -x system.posix_acl_access f; show f

say programs that carry them
setfacl -m u:4000:rw,g:4444:r f
try cp -a d cp; show cp cp/f cp/sub cp/sub/open
try cp f cpf; show cpf
try cp -p f cppf; show cppf
try rsync -aA d/ rsync/; show rsync rsync/f rsync/sub rsync/sub/closed
try tar --acls -cf t.tar d; mkdir tar; try tar --acls -C tar -xpf t.tar; show tar/d tar/d/f tar/d/sub tar/d/sub/open
try rsync -rnAi --delete d/ cp/
