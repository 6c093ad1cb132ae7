//! Which directories does the configuration share?

use super::{
    super::{place::At, raw::RawShare, values},
    Reader, ShareSettings,
};

impl Reader {
    pub(super) fn shares(&mut self, raw: &[At<RawShare>]) -> Vec<ShareSettings> {
        let mut shares: Vec<ShareSettings> = Vec::new();
        for (index, share) in raw.iter().enumerate() {
            let RawShare { name, path, to, rw } = &share.value;
            let key = |field: &str| format!("shares[{index}].{field}");
            let found_name = self.required(share.place, &key("name"), name, values::share_name);
            let path = self.required(share.place, &key("path"), path, values::absolute_path);
            let to = self.list(&key("to"), to, values::grantee);
            self.optional(&key("rw"), rw, values::boolean);
            let (Some(name), Some(path)) = (found_name, path) else {
                continue;
            };
            if shares.iter().any(|other| other.name.key() == name.key()) {
                self.find(
                    share.place,
                    &key("name"),
                    "must be unique, but is used above",
                );
            }
            shares.push(ShareSettings { name, path, to });
        }
        shares
    }
}
